//! What a run says to its host.

use std::sync::{PoisonError, RwLock};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::Failure;
use crate::failure::{RunFailure, code};

/// The largest text in one `log` entry, in bytes. A message of the protocol has at most 1 MiB, and
/// the escapes of JSON can make a text six times as long.
const MAX_LOG: usize = 128 * 1024;

/// The largest message of the protocol, in bytes, with room for what surrounds the params.
pub(crate) const MAX_MESSAGE: usize = 1024 * 1024 - 4096;

/// What a run may ask of its host: the other half of the plugin protocol.
///
/// A host implements it for `NativeLibrary::run`. Both methods may be
/// called by any thread while the run lasts.
pub trait HostCalls: Send + Sync {
    /// Takes a notification of the protocol, such as `log` or `output`. `params` names the task.
    fn notify(&self, method: &str, params: Value);

    /// Answers a request of the protocol, such as `fetch`. An unknown method is answered with
    /// [`code::UNKNOWN_METHOD`].
    fn request(&self, method: &str, params: Value) -> Result<Value, RunFailure>;

    /// What the module was greeted with: the params of the protocol's `welcome`, as JSON. `null` where
    /// nobody knows.
    fn welcome(&self) -> &str {
        "null"
    }
}

/// The host of a run, as long as the run lasts.
pub(crate) struct Connection {
    task: u64,
    host: RwLock<Option<Box<dyn HostCalls>>>,
}

impl Connection {
    pub(crate) fn new(task: u64, host: Box<dyn HostCalls>) -> Self {
        Self {
            task,
            host: RwLock::new(Some(host)),
        }
    }

    /// Sends a notification. What is too large, or comes when the run is over, is an error.
    pub(crate) fn notify(&self, method: &str, params: Value) -> Result<(), Failure> {
        let params = self.complete(method, params)?;
        let host = self.host.read().unwrap_or_else(PoisonError::into_inner);
        let host = host.as_ref().ok_or_else(|| over(method))?;
        host.notify(method, params);
        Ok(())
    }

    /// Sends a request and waits for the answer.
    pub(crate) fn request(&self, method: &str, params: Value) -> Result<Value, Failure> {
        let params = self.complete(method, params)?;
        let host = self.host.read().unwrap_or_else(PoisonError::into_inner);
        let host = host.as_ref().ok_or_else(|| over(method))?;
        host.request(method, params).map_err(Failure::of_request)
    }

    /// What the module was greeted with.
    pub(crate) fn welcome<T: DeserializeOwned + Default>(&self) -> T {
        let host = self.host.read().unwrap_or_else(PoisonError::into_inner);
        let params = host.as_ref().map_or("null", |host| host.welcome());
        let params: Option<T> = serde_json::from_str(params).unwrap_or_default();
        params.unwrap_or_default()
    }

    /// Ends it. Waits for calls in progress; later ones fail instead of reaching the host.
    pub(crate) fn close(&self) {
        *self.host.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Adds the task to the params and checks the size.
    fn complete(&self, method: &str, params: Value) -> Result<Value, Failure> {
        let mut params = match params {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        params.insert("task".to_owned(), self.task.into());
        let params = Value::Object(params);
        // What goes to the log was cut.
        if method != "log" {
            check_size(&params, &format!("the params of `{method}`"))?;
        }
        Ok(params)
    }
}

/// Refuses a value that would not fit a message.
pub(crate) fn check_size(value: &Value, what: &str) -> Result<(), Failure> {
    let size = value.to_string().len();
    if size <= MAX_MESSAGE {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{what} take {size} bytes as JSON, the limit is {MAX_MESSAGE}; use an output file instead"
    )))
}

/// Cuts the middle out of a text that is too large for a message, and says so in its place.
pub(crate) fn cut(text: &str) -> String {
    if text.len() <= MAX_LOG {
        return text.to_owned();
    }
    let head = text.floor_char_boundary(MAX_LOG / 2);
    let tail = text.ceil_char_boundary(text.len() - MAX_LOG / 2);
    format!(
        "{}\n… {} bytes cut …\n{}",
        &text[..head],
        tail - head,
        &text[tail..]
    )
}

fn over(method: &str) -> Failure {
    Failure::with_code(
        code::INTERNAL,
        format!("cannot send `{method}`: the run is over"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_keeps_head_and_tail() {
        assert_eq!(cut("short"), "short");
        let long = format!("head{}tail", "ü".repeat(MAX_LOG));
        let cut = cut(&long);
        assert!(cut.starts_with("headü") && cut.ends_with("ütail"));
        assert!(cut.contains("bytes cut") && cut.len() < MAX_LOG + 100);
    }
}
