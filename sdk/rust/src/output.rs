//! Outputs of a run, written bit by bit.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;

use crate::Failure;
use crate::connection::Connection;

/// What files in the run's directory are called whose name the plugin did not choose.
const PREFIX: &str = ".output-";

/// An output that is being written.
///
/// It becomes an output of the task with [`finish`](Output::finish); a run that ends well with
/// an output that is not finished fails, so that none is lost by oversight.
#[must_use = "an output is kept only when it is finished"]
pub struct Output {
    file: BufWriter<File>,
    path: PathBuf,
    number: usize,
    data_type: String,
    content_type: String,
    outputs: Arc<Outputs>,
}

impl Output {
    /// Writes what is buffered and makes the file an output of the task.
    pub fn finish(mut self) -> Result<(), Failure> {
        let name = self
            .outputs
            .open()
            .unfinished
            .remove(&self.number)
            .unwrap_or_default();
        self.file.flush().map_err(|error| {
            Failure::from(error).context(format_args!("cannot write the output `{name}`"))
        })?;
        self.outputs
            .announce(&self.path, &name, &self.data_type, &self.content_type)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// All outputs of a run.
pub(crate) struct Outputs {
    directory: PathBuf,
    connection: Arc<Connection>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// Number of the last output; names its file, so that any `name` will do.
    last: usize,
    /// Names of the outputs that are being written, by number.
    unfinished: BTreeMap<usize, String>,
}

impl Outputs {
    pub(crate) fn new(directory: PathBuf, connection: Arc<Connection>) -> Self {
        Self {
            directory,
            connection,
            open: Mutex::default(),
        }
    }

    pub(crate) fn create(
        outputs: &Arc<Self>,
        name: &str,
        data_type: &str,
        content_type: &str,
    ) -> Result<Output, Failure> {
        let mut open = outputs.open();
        let number = open.last + 1;
        let path = PathBuf::from(format!("{PREFIX}{number}"));
        let file = File::create_new(outputs.directory.join(&path)).map_err(|error| {
            Failure::from(error).context(format_args!("cannot create the output `{name}`"))
        })?;
        open.last = number;
        open.unfinished.insert(number, name.to_owned());
        drop(open);
        Ok(Output {
            file: BufWriter::with_capacity(64 * 1024, file),
            path,
            number,
            data_type: data_type.to_owned(),
            content_type: content_type.to_owned(),
            outputs: Arc::clone(outputs),
        })
    }

    /// Tells the host of a file that is complete.
    pub(crate) fn announce(
        &self,
        path: &Path,
        name: &str,
        data_type: &str,
        content_type: &str,
    ) -> Result<(), Failure> {
        let path = path.to_str().ok_or_else(|| {
            Failure::new(format!(
                "the path of the output `{name}` is not UTF-8: {path:?}"
            ))
        })?;
        let params = json!({
            "path": path, "name": name, "dataType": data_type, "contentType": content_type,
        });
        self.connection.notify("output", params)
    }

    /// Refuses to end a run that has begun outputs and not finished them.
    pub(crate) fn check_finished(&self) -> Result<(), Failure> {
        match self.open().unfinished.values().next() {
            Some(name) => Err(Failure::new(format!(
                "the output `{name}` was never finished"
            ))),
            None => Ok(()),
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // What is inside stays consistent if a thread of the plugin panics in between.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
