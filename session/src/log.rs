//! What was said in a session: append-only, bounded, on disk. A position in it is an offset in bytes since the
//! session's first message; it means the same after a restart.
//!
//! Segments are files named by the offset of their first byte. A record is
//! `u32le length of the rest | u16le length of the recipient | recipient | frame`. The end is kept in memory, so that
//! clients that keep up read no file.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::message::{Json, Message};
use crate::wire::{Frame, Framing, Limits};

/// Bytes of a record before its recipient.
const HEAD: usize = 6;
/// Bytes that are kept in memory.
const TAIL: usize = 1 << 20;
/// Segments that make up the log.
const SEGMENTS: u64 = 4;
/// Bytes that are read from files at a time.
const BATCH: usize = 1 << 20;
/// The ending of segments.
const ENDING: &str = "log";

/// A message that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The offset of its first byte.
    pub begin: u64,
    /// The offset after it.
    pub end: u64,
    /// The client that it is for; nothing for everybody.
    pub to: Option<Box<str>>,
    /// The message, as a v1 frame.
    pub frame: Bytes,
}

/// Bytes of a message in a log, in whichever form.
pub const MAX_SAID: usize = 512 << 20;

impl Record {
    /// The message; with `shows_offset`, its metadata say where in the log one goes on after it. What cannot be read is
    /// for nobody.
    pub fn message(&self, shows_offset: bool) -> Option<Message> {
        let limits = Limits {
            frame: MAX_SAID,
            ..Limits::default()
        };
        let frame = Frame::Binary(self.frame.clone());
        let mut message = Framing::V1.decode(frame, &limits).ok()?;
        if shows_offset {
            let mut metadata: Map<String, Value> = message.metadata.read().ok()?;
            metadata.insert("offset".to_owned(), self.end.into());
            message.metadata = Json::new(&metadata).ok()?;
        }
        Some(message)
    }
}

/// A log.
#[derive(Debug)]
pub(crate) struct Log {
    state: Mutex<State>,
    /// The offset of its end.
    end: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    folder: PathBuf,
    /// Bytes of one segment.
    segment_size: u64,
    /// Offsets of the first bytes of segments; the last one is written.
    segments: VecDeque<u64>,
    file: Option<File>,
    tail: VecDeque<Arc<Record>>,
    tail_size: usize,
    /// Whether the disk took all until now.
    is_whole: bool,
}

/// What stands in a log from an offset on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Some of it; empty at the end.
    pub(crate) records: Vec<Arc<Record>>,
    /// Bytes before it that are no longer there.
    pub(crate) missing: u64,
}

impl Log {
    /// An empty log in a folder, which is made when something is said.
    pub(crate) fn new(folder: &Path, size: u64) -> Self {
        Self::with(folder, size, VecDeque::new(), 0)
    }

    /// The log that is in a folder, if there is one. Reads it.
    pub(crate) fn open(folder: &Path, size: u64) -> std::io::Result<Self> {
        let mut segments: Vec<u64> = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let is_segment = path.extension().is_some_and(|ending| ending == ENDING);
            let name = path.file_stem().and_then(|name| name.to_str());
            if let (true, Some(Ok(offset))) =
                (is_segment, name.map(|name| u64::from_str_radix(name, 16)))
            {
                segments.push(offset);
            }
        }
        segments.sort_unstable();
        let mut end = 0;
        if let Some(last) = segments.last() {
            end = *last;
            let path = segment(folder, *last);
            read_segment(&path, *last, *last, usize::MAX, &mut |record| {
                end = record.end;
            })?;
            // What was written when the process died.
            File::options()
                .write(true)
                .open(&path)?
                .set_len(end - last)?;
        }
        Ok(Self::with(folder, size, segments.into(), end))
    }

    fn with(folder: &Path, size: u64, segments: VecDeque<u64>, end: u64) -> Self {
        Self {
            state: Mutex::new(State {
                folder: folder.to_owned(),
                segment_size: (size / SEGMENTS).max(1),
                segments,
                file: None,
                tail: VecDeque::new(),
                tail_size: 0,
                is_whole: true,
            }),
            end: watch::Sender::new(end),
        }
    }

    /// The offset of its end.
    pub(crate) fn end(&self) -> u64 {
        *self.end.borrow()
    }

    /// Hears of its growth.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }

    /// Says something.
    pub(crate) fn append(&self, to: Option<&str>, frame: Bytes) {
        let mut state = self.lock();
        let name = to.unwrap_or_default();
        // Longer names are not accepted where clients attach.
        let name_size = u16::try_from(name.len()).unwrap_or(u16::MAX);
        let rest = 2 + name.len() + frame.len();
        let begin = self.end();
        let mut head = Vec::with_capacity(HEAD + name.len());
        head.extend_from_slice(&u32::try_from(rest).unwrap_or(u32::MAX).to_le_bytes());
        head.extend_from_slice(&name_size.to_le_bytes());
        head.extend_from_slice(name.as_bytes());
        let record = Record {
            begin,
            end: begin + (head.len() + frame.len()) as u64,
            to: to.map(Into::into),
            frame,
        };
        if let Err(error) = state.write(begin, &head, &record.frame)
            && std::mem::replace(&mut state.is_whole, false)
        {
            tracing::warn!(
                folder = %state.folder.display(),
                "the log of a session cannot be written, so what is replayed of it has gaps: {error}"
            );
        }
        let end = record.end;
        state.tail_size += record.frame.len();
        state.tail.push_back(Arc::new(record));
        while state.tail_size > TAIL && state.tail.len() > 1 {
            if let Some(oldest) = state.tail.pop_front() {
                state.tail_size -= oldest.frame.len();
            }
        }
        // Under the lock, so that offsets grow.
        self.end.send_replace(end);
    }

    /// What stands there from an offset on. It need not be the beginning of a record.
    pub(crate) async fn read(self: &Arc<Self>, from: u64) -> Found {
        if let Some(read) = self.lock().read_tail(from, self.end()) {
            return read;
        }
        let log = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || log.read_files(from)).await;
        read.unwrap_or_default()
    }

    fn read_files(&self, from: u64) -> Found {
        let mut read = Found::default();
        let (folder, segments) = {
            let state = self.lock();
            (state.folder.clone(), state.segments.clone())
        };
        let first = segments.iter().rposition(|base| *base <= from).unwrap_or(0);
        let mut size = 0;
        for base in segments.iter().skip(first) {
            let path = segment(&folder, *base);
            // A segment that was dropped meanwhile is missing like any other.
            let _ = read_segment(&path, *base, from, BATCH - size, &mut |record| {
                size += record.frame.len();
                read.records.push(Arc::new(record));
            });
            if size >= BATCH {
                break;
            }
        }
        match read.records.first() {
            Some(first) => read.missing = first.begin.saturating_sub(from),
            None => {
                // The files have nothing; go on with what is in memory.
                let state = self.lock();
                let begin = state.tail.front().map_or(self.end(), |first| first.begin);
                read.missing = begin.saturating_sub(from);
                read.records = state.tail.iter().cloned().collect();
            }
        }
        read
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn read_tail(&self, from: u64, end: u64) -> Option<Found> {
        if from >= end {
            return Some(Found::default());
        }
        if from < self.tail.front()?.begin {
            return None;
        }
        let first = self.tail.partition_point(|record| record.begin < from);
        Some(Found {
            records: self.tail.iter().skip(first).cloned().collect(),
            missing: 0,
        })
    }

    fn write(&mut self, begin: u64, head: &[u8], frame: &[u8]) -> std::io::Result<()> {
        let is_full = match self.segments.back() {
            Some(base) => begin - base >= self.segment_size,
            None => true,
        };
        if is_full || !self.is_whole {
            if self.segments.is_empty() {
                fs::create_dir_all(&self.folder)?;
            }
            self.file = Some(
                File::options()
                    .create(true)
                    .append(true)
                    .open(segment(&self.folder, begin))?,
            );
            self.segments.push_back(begin);
            self.is_whole = true;
        }
        while self.segments.len() as u64 > SEGMENTS {
            if let Some(oldest) = self.segments.pop_front() {
                let _ = fs::remove_file(segment(&self.folder, oldest));
            }
        }
        if self.file.is_none()
            && let Some(base) = self.segments.back()
        {
            let path = segment(&self.folder, *base);
            self.file = Some(File::options().append(true).open(path)?);
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.write_all(head)?;
        file.write_all(frame)
    }
}

fn segment(folder: &Path, base: u64) -> PathBuf {
    folder.join(format!("{base:016x}.{ENDING}"))
}

/// Reads the whole records of a segment that begin at an offset or behind it, until they have this size.
fn read_segment(
    path: &Path,
    base: u64,
    from: u64,
    size: usize,
    take: &mut dyn FnMut(Record),
) -> std::io::Result<()> {
    let mut file = BufReader::with_capacity(1 << 16, File::open(path)?);
    let mut begin = base;
    let mut taken = 0;
    while taken < size {
        let mut head = [0; HEAD];
        if read_whole(&mut file, &mut head)?.is_none() {
            return Ok(());
        }
        let rest = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let name = usize::from(u16::from_le_bytes([head[4], head[5]]));
        let Some(frame) = rest.checked_sub(2 + name) else {
            return Ok(());
        };
        let end = begin + (HEAD + name + frame) as u64;
        if begin < from {
            let skipped = i64::try_from(name + frame).unwrap_or(i64::MAX);
            file.seek_relative(skipped)?;
            begin = end;
            continue;
        }
        let mut bytes = vec![0; name + frame];
        if read_whole(&mut file, &mut bytes)?.is_none() {
            return Ok(());
        }
        let mut bytes = Bytes::from(bytes);
        let to = String::from_utf8_lossy(&bytes.split_to(name)).into_owned();
        taken += bytes.len();
        take(Record {
            begin,
            end,
            to: (!to.is_empty()).then(|| to.into()),
            frame: bytes,
        });
        begin = end;
    }
    Ok(())
}

/// Fills a buffer; nothing where the file ends before.
fn read_whole(file: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<Option<()>> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(Some(())),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(log: &Log, number: usize, size: usize) {
        let mut text = format!("{number} ").into_bytes();
        text.resize(size, b'.');
        log.append((number.is_multiple_of(2)).then_some("one"), text.into());
    }

    async fn all(log: &Arc<Log>, mut from: u64) -> (Vec<usize>, u64) {
        let (mut numbers, mut missing) = (Vec::new(), 0);
        loop {
            let read = log.read(from).await;
            missing += read.missing;
            let Some(last) = read.records.last() else {
                return (numbers, missing);
            };
            from = last.end;
            for record in &read.records {
                let text = String::from_utf8_lossy(&record.frame);
                let number: usize = text.split(' ').next().unwrap().parse().unwrap();
                assert_eq!(record.to.is_some(), number.is_multiple_of(2));
                numbers.push(number);
            }
        }
    }

    #[tokio::test]
    async fn what_was_said_is_read_from_any_offset_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let log = Arc::new(Log::new(&path, 64 << 20));
        assert_eq!(all(&log, 0).await, (vec![], 0));
        // More than is kept in memory.
        for number in 0..1000 {
            said(&log, number, 5000);
        }
        let expected: Vec<usize> = (0..1000).collect();
        assert_eq!(all(&log, 0).await, (expected.clone(), 0));
        let middle = log.read(0).await.records[4].end;
        assert_eq!(all(&log, middle).await.0, expected[5..]);
        // Not the beginning of a record.
        assert_eq!(all(&log, middle - 1).await.0, expected[5..]);
        assert_eq!(all(&log, log.end() + 5).await.0, [0; 0]);
        let end = log.end();
        drop(log);
        let last = fs::read_dir(&path)
            .unwrap()
            .flatten()
            .max_by_key(|one| one.path());
        let mut file = File::options()
            .append(true)
            .open(last.unwrap().path())
            .unwrap();
        file.write_all(b"half a record").unwrap();
        let log = Arc::new(Log::open(&path, 64 << 20).unwrap());
        assert_eq!(log.end(), end);
        said(&log, 1000, 10);
        assert_eq!(all(&log, 0).await.0, (0..1001).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn what_is_old_is_dropped_and_the_gap_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let log = Arc::new(Log::new(&path, 4 << 20));
        for number in 0..1000 {
            said(&log, number, 10_000);
        }
        let (numbers, missing) = all(&log, 0).await;
        assert_eq!(*numbers.last().unwrap(), 999);
        let first = numbers[0];
        assert!((400..800).contains(&first), "{first}");
        assert_eq!(numbers, (first..1000).collect::<Vec<_>>());
        assert!(missing > first as u64 * 10_000);
        let size: u64 = fs::read_dir(&path)
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!(size <= 5 << 20, "{size}");
    }
}
