//! How much a cell and a session may put out, and the files for what is beyond.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::message::{Channel, Message};

/// The folder of such files, in that of a session.
pub(crate) const FOLDER: &str = "outputs";
/// Bytes that a cell may go on to put out after it was interrupted for what it put out.
const PATIENCE: u64 = 16 << 20;
/// Bytes of a line that is repeated where the file begins.
const MAX_LINE: usize = 1 << 16;
/// What counts.
const COUNTED: [&str; 4] = [
    "stream",
    "display_data",
    "update_display_data",
    "execute_result",
];

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes to clients.
    Said,
    /// It is the first that goes into this file.
    Begins(String),
    /// It went into the file of its cell.
    Kept,
    /// There is no room for it, and its cell is to be interrupted.
    Full,
    /// There is no room for it, and its cell goes on and on.
    Endless,
}

/// A file of a cell that has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Done {
    /// Its name.
    pub(crate) name: String,
    /// Bytes in it.
    pub(crate) size: u64,
    /// Bytes for which there was no room.
    pub(crate) lost: u64,
}

/// The output of a session.
#[derive(Debug)]
pub(crate) struct Output {
    folder: PathBuf,
    /// Bytes of a cell that are said.
    most_said: u64,
    /// Bytes of all files.
    most_kept: u64,
    kept: u64,
    cell: String,
    said: u64,
    /// What was said of the last line, if that has not ended.
    line: String,
    lost: u64,
    file: Option<(String, File, u64)>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
}

impl Output {
    pub(crate) fn new(session: &Path, most_said: u64, most_kept: u64) -> Self {
        let folder = session.join(FOLDER);
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let sizes = entries.filter_map(|entry| entry.metadata().ok());
        let kept = sizes.map(|metadata| metadata.len()).sum();
        Self {
            folder,
            most_said,
            most_kept,
            kept,
            cell: String::new(),
            said: 0,
            line: String::new(),
            lost: 0,
            file: None,
        }
    }

    /// Counts a message of a kernel.
    pub(crate) fn take(&mut self, message: &Message) -> Verdict {
        let is_counted = message.channel == Channel::Iopub
            && COUNTED.contains(&message.header.msg_type.as_str());
        if !is_counted {
            return Verdict::Said;
        }
        let cell = message.parent_header.as_ref();
        let cell = cell.map_or("", |parent| parent.msg_id.as_str());
        if cell != self.cell {
            // Threads of an older cell print as well; its file is closed then.
            self.cell = cell.to_owned();
            (self.said, self.lost, self.file) = (0, 0, None);
            self.line.clear();
        }
        let buffers: usize = message.buffers.iter().map(bytes::Bytes::len).sum();
        let size = (message.content.as_str().len() + buffers) as u64;
        let text = match message.content.read::<Text>() {
            Ok(Text { text }) if message.header.msg_type == "stream" => Some(text),
            _ => None,
        };
        if self.said + size <= self.most_said {
            self.said += size;
            self.remember(&text.unwrap_or_default());
            return Verdict::Said;
        }
        // From here on all of it goes into the file, in its order, which begins with a whole line.
        self.said = self.most_said;
        let mut text = text.unwrap_or_else(|| format!("{}\n", message.content.as_str()));
        text.insert_str(0, &std::mem::take(&mut self.line));
        let begun = match self.keep(text.as_bytes()) {
            Ok(begun) => begun,
            Err(problem) => {
                if self.lost == 0 {
                    tracing::info!("output of a session has no room: {problem}");
                }
                let before = self.lost;
                self.lost += text.len() as u64;
                return match self.lost > PATIENCE {
                    true => Verdict::Endless,
                    false if before == 0 => Verdict::Full,
                    false => Verdict::Kept,
                };
            }
        };
        begun.map_or(Verdict::Kept, Verdict::Begins)
    }

    fn remember(&mut self, text: &str) {
        let begin = text.rfind('\n').map(|at| at + 1);
        if begin.is_some() || self.line.len() > MAX_LINE {
            self.line.clear();
        }
        self.line.push_str(&text[begin.unwrap_or_default()..]);
    }

    /// Writes into the file of the cell. Answers its name if it is new.
    fn keep(&mut self, text: &[u8]) -> Result<Option<String>, String> {
        if self.lost > 0 || self.kept + text.len() as u64 > self.most_kept {
            return Err(format!("its files have {} bytes", self.kept));
        }
        let mut begun = None;
        if self.file.is_none() {
            let name = format!("{}.txt", uuid::Uuid::new_v4().simple());
            let made = fs::create_dir_all(&self.folder)
                .and_then(|()| File::create(self.folder.join(&name)));
            let file = made.map_err(|error| error.to_string())?;
            begun = Some(name.clone());
            self.file = Some((name, file, 0));
        }
        if let Some((_, file, size)) = &mut self.file {
            file.write_all(text).map_err(|error| error.to_string())?;
            *size += text.len() as u64;
            self.kept += text.len() as u64;
        }
        Ok(begun)
    }

    /// A request has ended. Answers its file, if it has one, or what was lost of its output.
    pub(crate) fn done(&mut self, request: &str) -> Option<Done> {
        if request != self.cell || (self.file.is_none() && self.lost == 0) {
            return None;
        }
        let (name, size) = match self.file.take() {
            Some((name, _, size)) => (name, size),
            None => (String::new(), 0),
        };
        let lost = std::mem::take(&mut self.lost);
        self.cell.clear();
        self.said = 0;
        Some(Done { name, size, lost })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Header;
    use crate::told;
    use serde_json::json;

    fn printed(cell: &str, size: usize) -> Message {
        let parent = Header {
            msg_id: cell.to_owned(),
            ..Header::default()
        };
        let content = json!({"name": "stdout", "text": "x".repeat(size)});
        told::message(Channel::Iopub, "stream", Some(&parent), &content)
    }

    #[test]
    fn what_is_beyond_goes_into_a_file_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut output = Output::new(folder.path(), 1000, 10_000);
        assert_eq!(output.take(&printed("a", 500)), Verdict::Said);
        let Verdict::Begins(name) = output.take(&printed("a", 2000)) else {
            panic!("no file");
        };
        assert_eq!(output.take(&printed("a", 1)), Verdict::Kept);
        let done = output.done("a").unwrap();
        assert_eq!(
            (done.name.as_str(), done.size, done.lost),
            (&*name, 2501, 0)
        );
        let text = fs::read(folder.path().join(FOLDER).join(name)).unwrap();
        assert_eq!(text.len(), 2501);
        assert_eq!(output.done("a"), None);
        assert_eq!(output.take(&printed("b", 500)), Verdict::Said);
        assert_eq!(output.done("b"), None);
    }

    #[test]
    fn a_cell_without_room_is_interrupted_once_and_then_is_endless() {
        let folder = tempfile::tempdir().unwrap();
        let mut output = Output::new(folder.path(), 1000, 3000);
        assert!(matches!(
            output.take(&printed("a", 2000)),
            Verdict::Begins(_)
        ));
        assert_eq!(output.take(&printed("a", 2000)), Verdict::Full);
        assert_eq!(output.take(&printed("a", 2000)), Verdict::Kept);
        let last = output.take(&printed("a", PATIENCE as usize));
        assert_eq!(last, Verdict::Endless);
        let done = output.done("a").unwrap();
        assert_eq!(done.size, 2000);
        assert_eq!(done.lost, 4000 + PATIENCE);
    }
}
