//! Outputs of a run, written bit by bit.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::Failure;
use crate::connection::Connection;

/// What files in the run's directory are called whose name the plugin did not choose.
const PREFIX: &str = ".output-";

/// The longest output that is told as text instead of made a file, in bytes: making and removing a file costs
/// as much as passing on some thousands of bytes.
const MAX_TEXT: usize = 16 * 1024;

/// An output that is being written.
///
/// It becomes an output of the task with [`finish`](Output::finish); a run that ends well with
/// an output that is not finished fails, so that none is lost by oversight.
#[must_use = "an output is kept only when it is finished"]
pub struct Output {
    content: Content,
    number: usize,
    data_type: String,
    content_type: String,
    outputs: Arc<Outputs>,
}

/// What was written so far.
enum Content {
    /// It may stay as short as this.
    Short(Vec<u8>),
    File(BufWriter<File>),
}

impl Output {
    /// Writes what is buffered and makes it an output of the task.
    pub fn finish(mut self) -> Result<(), Failure> {
        let name = self
            .outputs
            .open()
            .unfinished
            .remove(&self.number)
            .unwrap_or_default();
        let failed = |error: io::Error| {
            Failure::from(error).context(format_args!("cannot write the output `{name}`"))
        };
        let (data_type, content_type) = (&self.data_type, &self.content_type);
        if let Content::Short(bytes) = &mut self.content {
            match String::from_utf8(std::mem::take(bytes)) {
                Ok(text) if self.outputs.take_room(text.len()) => {
                    return self.outputs.tell(json!({
                        "text": text, "name": name, "dataType": data_type, "contentType": content_type,
                    }));
                }
                Ok(text) => *bytes = text.into_bytes(),
                Err(binary) => *bytes = binary.into_bytes(),
            }
        }
        self.file().and_then(Write::flush).map_err(failed)?;
        self.outputs.announce(
            Path::new(&file_name(self.number)),
            &name,
            &self.data_type,
            &self.content_type,
        )
    }

    /// The file, which is made now unless it was before.
    fn file(&mut self) -> io::Result<&mut BufWriter<File>> {
        if let Content::Short(bytes) = &self.content {
            let mut file = self.outputs.make_file(self.number)?;
            file.write_all(bytes)?;
            self.content = Content::File(file);
        }
        match &mut self.content {
            Content::File(file) => Ok(file),
            Content::Short(_) => Err(io::Error::other("the output has no file")),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.content {
            Content::Short(short) if short.len() + bytes.len() <= MAX_TEXT => {
                short.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            _ => self.file()?.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.content {
            Content::Short(_) => Ok(()),
            Content::File(file) => file.flush(),
        }
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
    /// Bytes that the runner still takes as text.
    room: usize,
}

impl Outputs {
    /// `room`: bytes that the runner takes as text.
    pub(crate) fn new(directory: PathBuf, room: usize, connection: Arc<Connection>) -> Self {
        Self {
            directory,
            connection,
            open: Mutex::new(Open {
                room,
                ..Open::default()
            }),
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
        let content = match open.room {
            0 => Content::File(outputs.make_file(number).map_err(|error| {
                Failure::from(error).context(format_args!("cannot create the output `{name}`"))
            })?),
            _ => Content::Short(Vec::new()),
        };
        open.last = number;
        open.unfinished.insert(number, name.to_owned());
        drop(open);
        Ok(Output {
            content,
            number,
            data_type: data_type.to_owned(),
            content_type: content_type.to_owned(),
            outputs: Arc::clone(outputs),
        })
    }

    fn make_file(&self, number: usize) -> io::Result<BufWriter<File>> {
        let file = File::create_new(self.directory.join(file_name(number)))?;
        Ok(BufWriter::with_capacity(64 * 1024, file))
    }

    /// Whether the runner takes so many bytes more as text.
    fn take_room(&self, size: usize) -> bool {
        let mut open = self.open();
        match open.room.checked_sub(size) {
            Some(room) => {
                open.room = room;
                true
            }
            None => false,
        }
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
        self.tell(json!({
            "path": path, "name": name, "dataType": data_type, "contentType": content_type,
        }))
    }

    /// Tells the host of an output.
    pub(crate) fn tell(&self, output: Value) -> Result<(), Failure> {
        self.connection.notify("output", output)
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

fn file_name(number: usize) -> String {
    format!("{PREFIX}{number}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Trial;
    use crate::{Description, Outcome, Plugin, Task};

    /// Makes outputs of these contents, each in pieces.
    struct Makes(Vec<Vec<u8>>);

    impl Plugin for Makes {
        fn describe(&self) -> Description {
            Description::new("makes", "1.0.0")
        }

        fn run(&self, task: &Task) -> Result<Outcome, Failure> {
            for content in &self.0 {
                let mut output = task.create_output("out", "custom/x", "text/plain")?;
                for piece in content.chunks(5000) {
                    output.write_all(piece)?;
                }
                output.finish()?;
            }
            Ok(().into())
        }
    }

    #[test]
    fn an_output_is_text_if_it_is_short_and_text_and_there_is_room_and_else_a_file() {
        let mut contents = vec![
            Vec::new(),
            b"ue: \xc3\xbc \0".to_vec(),
            b"\xc3".to_vec(),
            vec![b'x'; MAX_TEXT],
            vec![b'x'; MAX_TEXT + 1],
        ];
        contents.resize(100, vec![b'y'; MAX_TEXT]);
        let report = Trial::new().run(&Makes(contents.clone())).unwrap();
        let made: Vec<_> = report
            .outputs
            .iter()
            .map(|output| &output.content)
            .collect();
        assert_eq!(made, contents.iter().collect::<Vec<_>>());
        let is_file: Vec<_> = report
            .outputs
            .iter()
            .map(|output| output.path.is_some())
            .collect();
        assert_eq!(is_file[..6], [false, false, true, false, true, false]);
        let texts = report.outputs.iter().filter(|output| output.path.is_none());
        let bytes: usize = texts.map(|output| output.content.len()).sum();
        assert!(
            bytes <= 1024 * 1024,
            "no more than the runner takes: {bytes}"
        );
        assert!(bytes > 1024 * 1024 - MAX_TEXT, "{bytes}");
        assert!(is_file[99], "there was no room any more");
    }
}
