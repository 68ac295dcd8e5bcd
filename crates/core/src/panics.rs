//! Panics: their words, and those that are contained where they happen.
//!
//! Owns: doing work whose panic is an answer, not a fault of this process: a library's own way to refuse what comes from outside.
//! Does not own: the log line of all other panics (see `logging`).

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

thread_local! {
    /// Whether this thread does contained work, and where it panicked.
    static CONTAINED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Returns what was said at a panic that was caught.
pub fn words(panic: &(dyn Any + Send)) -> Option<&str> {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
}

/// Does work that may panic. Nothing of what it changed may be used after that.
///
/// # Errors
/// Where it panicked, and with what words.
pub fn contained<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    CONTAINED.set(Some(String::new()));
    let done = catch_unwind(AssertUnwindSafe(work));
    let place = CONTAINED.take().unwrap_or_default();
    done.map_err(|_| place)
}

/// Takes note of a panic, and returns whether it is contained.
pub fn note(panic: &PanicHookInfo<'_>) -> bool {
    CONTAINED.with_borrow_mut(|contained| {
        let Some(place) = contained else { return false };
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        *place = format!("{at}: {}", panic.payload_as_str().unwrap_or("no message"));
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contained_panic_is_an_error_and_the_next_work_is_as_before() {
        assert!(contained(|| panic!("{}", 7)).is_err());
        assert_eq!(contained(|| 7), Ok(7));
    }
}
