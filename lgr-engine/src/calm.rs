//! Panics of parts that are not the engine's control: a guest, a factory, whatever a device's thread does for a pass. Each ends
//! the move with a reason; without this the thread would be gone, and the move would wait for it.

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
