//! What a thread of this crate that panics leaves behind: a reason, and nothing that waits for it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The words of a panic.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without words".to_owned())
}

/// Runs `step`; the words of its panic, if it panics. What it worked on is not looked at again but to be taken down.
pub(crate) fn guarded<T>(step: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(step)).map_err(|panic| text_of(&*panic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_panic_are_kept() {
        assert_eq!(guarded(|| 5), Ok(5));
        assert_eq!(guarded(|| -> u8 { panic!("plain") }), Err("plain".to_owned()));
        assert_eq!(guarded(|| -> u8 { panic!("number {}", 7) }), Err("number 7".to_owned()));
        assert_eq!(guarded(|| std::panic::panic_any(7u8)), Err("without words".to_owned()));
    }
}
