//! Panics of parts that are anybody's to write, a guest or a factory, in the thread that controls the move. (One in a device's
//! thread ends the link, with its words.)

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `part` gives, or that it panicked, in words. What it was at is not asked again for more than to be stopped.
pub(crate) fn calmly<T>(what: &str, part: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(part)).map_err(|panic| format!("{what} panicked: {}", words_of(&*panic)))
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}
