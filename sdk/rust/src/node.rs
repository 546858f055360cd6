//! Plugins as nodes of pipelines: what they are given, and what they give.

use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::Failure;

/// Values that may be made of one item.
const MAX_VALUES: usize = 65_536;
/// The longest item as JSON, in bytes.
const MAX_ITEM: usize = 16 << 20;

/// A plugin that was opened as a node. It works on one item at a time.
pub trait Node: Send {
    /// Makes values of an item: none, one or several. A failure is that of the item alone.
    ///
    /// `with` are its parameters, where they are not the same for every item.
    fn item(
        &mut self,
        item: Value,
        with: Option<&Map<String, Value>>,
        made: &mut Made,
    ) -> Result<(), Failure>;

    /// Makes values of nothing, at most so many, where the description says that it is a source.
    /// `false` after the last one.
    fn pull(&mut self, most: usize, made: &mut Made) -> Result<bool, Failure> {
        let _ = (most, made);
        Err(Failure::new("this node is no source"))
    }

    /// Cleans up: there are no more items, or the pipeline is gone.
    fn end(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

/// What a node is opened with.
#[derive(Clone, Debug, Default)]
pub struct Opening {
    /// Its name in the pipeline.
    pub name: String,
    /// Its parameters, where they are the same for every item.
    pub with: Option<Map<String, Value>>,
    /// Where it may write files. An item `{"name", "dataType", "path"}` is a file: one that it is given it reads at
    /// `path`, one that it makes lies in this directory.
    pub directory: Option<PathBuf>,
}

/// A node that makes one value of each item by a function.
///
/// ```
/// # use runner_sdk::{Made, Node, each};
/// let mut shout = each(|text: String| Ok(text.to_uppercase()));
/// let mut made = Made::default();
/// shout.item("abc".into(), None, &mut made)?;
/// assert_eq!(made.as_json(), br#""ABC""#);
/// # Ok::<(), runner_sdk::Failure>(())
/// ```
pub fn each<T, R>(function: impl FnMut(T) -> Result<R, Failure> + Send + 'static) -> Box<dyn Node>
where
    T: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    Box::new(Each(function, std::marker::PhantomData))
}

struct Each<F, T, R>(F, std::marker::PhantomData<fn(T) -> R>);

impl<F, T, R> Node for Each<F, T, R>
where
    F: FnMut(T) -> Result<R, Failure> + Send,
    T: DeserializeOwned,
    R: Serialize,
{
    fn item(
        &mut self,
        item: Value,
        _: Option<&Map<String, Value>>,
        made: &mut Made,
    ) -> Result<(), Failure> {
        let item = serde_json::from_value(item)
            .map_err(|error| Failure::new(format!("the item is not as expected: {error}")))?;
        made.value(&(self.0)(item)?)
    }
}

/// What a node has made of an item, as JSON.
#[derive(Clone, Debug, Default)]
pub struct Made {
    text: Vec<u8>,
    /// Where the values of this item begin.
    begin: usize,
    count: usize,
}

impl Made {
    /// Adds a value.
    pub fn value(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        if self.count == MAX_VALUES {
            return Err(Failure::new(format!(
                "it made more than {MAX_VALUES} items of one"
            )));
        }
        if self.count > 0 {
            self.text.push(b',');
        }
        self.count += 1;
        serde_json::to_writer(&mut self.text, value)?;
        let size = self.text.len() - self.begin;
        if size > MAX_ITEM {
            return Err(Failure::new(format!(
                "what it made has {size} bytes as JSON; it has at most {MAX_ITEM}"
            )));
        }
        Ok(())
    }

    /// The values of this item as JSON, separated by commas.
    pub fn as_json(&self) -> &[u8] {
        &self.text[self.begin..]
    }

    /// Bytes of all outcomes so far.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// All outcomes so far, separated by commas; none any more.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        (self.begin, self.count) = (0, 0);
        std::mem::take(&mut self.text)
    }

    /// The outcome of an item.
    pub(crate) fn outcome(&mut self, work: impl FnOnce(&mut Self) -> Result<(), Failure>) {
        if !self.text.is_empty() {
            self.text.push(b',');
        }
        let outcome = self.text.len();
        self.text.push(b'[');
        (self.begin, self.count) = (self.text.len(), 0);
        match work(self) {
            Ok(()) => self.text.push(b']'),
            Err(failure) => {
                self.text.truncate(outcome);
                let failed = json!({"error": failure.message()});
                self.text.extend_from_slice(failed.to_string().as_bytes());
            }
        }
    }
}
