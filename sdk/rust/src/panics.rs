//! Panics of a plugin, with the place where they happened.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

use crate::Failure;
use crate::failure::{RunFailure, code};

thread_local! {
    /// Whether this thread is inside of [`catch`].
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    /// Where the last panic inside of [`catch`] happened.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs code of a plugin. Its panic becomes a failure with message and place.
pub(crate) fn catch<T>(code: impl FnOnce() -> Result<T, Failure>) -> Result<T, RunFailure> {
    install_hook();
    let before = CATCHING.replace(true);
    let caught = panic::catch_unwind(AssertUnwindSafe(code));
    CATCHING.set(before);
    let place = PLACE.take();
    match caught {
        Ok(result) => result.map_err(RunFailure::from),
        Err(payload) => {
            let message = message(payload.as_ref()).unwrap_or("a value that is no text");
            let failure = Failure::with_code(code::FAILED, format!("panicked: {message}"));
            let mut failure = RunFailure::from(failure);
            let rest = failure.traceback.take();
            failure.traceback = [place, rest]
                .into_iter()
                .flatten()
                .reduce(|place, rest| format!("{place}\n{rest}"));
            // A payload may panic when it is dropped, and nothing would catch that.
            std::mem::forget(payload);
            Err(failure)
        }
    }
}

/// What a panic says.
pub(crate) fn message(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

/// Has panics inside of [`catch`] remembered instead of printed; others go on as before.
fn install_hook() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if CATCHING.get() {
                PLACE.set(Some(place(info)));
            } else {
                before(info);
            }
        }));
    });
}

/// The line of the panic, and the stack if `RUST_BACKTRACE` asks for it.
fn place(info: &PanicHookInfo<'_>) -> String {
    let mut place = match info.location() {
        Some(location) => format!("at {location}"),
        None => "at an unknown place".to_owned(),
    };
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        place.push_str(&format!("\n{backtrace}"));
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_failure_with_its_place() {
        let failure = catch::<()>(|| panic!("no {}", "luck\nat all")).unwrap_err();
        assert_eq!(failure.message, "panicked: no luck");
        let traceback = failure.traceback.unwrap();
        assert!(traceback.starts_with("at "), "{traceback}");
        assert!(
            traceback.contains("panics.rs:") && traceback.contains("at all"),
            "{traceback}"
        );
    }

    #[test]
    fn a_panic_that_a_plugin_caught_itself_is_none() {
        let result = catch(|| {
            let _ = panic::catch_unwind(|| panic!("inner"));
            Ok(1)
        });
        assert_eq!(result, Ok(1));
        let failure = catch::<()>(|| panic::panic_any(7)).unwrap_err();
        assert_eq!(failure.message, "panicked: a value that is no text");
    }
}
