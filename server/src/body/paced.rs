//! Keeps the parser of multipart bodies from gathering what never ends.
//!
//! The parser takes whatever is ready, and looks for the end of a preamble or of a part's headers in all
//! that it has, each time that more comes. Here it gets one small piece at a time, and an error when it
//! has had too many without having found that end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use axum::BoxError;
use bytes::Bytes;
use futures::Stream;

/// Bytes that may come between the contents of two parts.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// Bytes that the parser gets before it has to look at them.
const PIECE: usize = 16 * 1024;

/// There is too much before the content of a part.
#[derive(Debug, thiserror::Error)]
#[error("more than {MAX_HEAD} bytes before the content of a part")]
pub(super) struct HeadTooLong;

/// Bytes that the parser got since it last gave something.
#[derive(Debug, Clone, Default)]
pub(super) struct Head(Arc<AtomicUsize>);

impl Head {
    /// Says that the parser gave the headers of a part, or some of its content.
    pub(super) fn has_ended(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// A body in small pieces.
#[derive(Debug)]
pub(super) struct Paced<S> {
    body: S,
    /// What came of the body and was not given to the parser yet.
    rest: Bytes,
    /// Whether the parser has to look at a piece before it gets the next one.
    is_paused: bool,
    head: Head,
}

impl<S> Paced<S> {
    pub(super) fn new(body: S, head: Head) -> Self {
        Self {
            body,
            rest: Bytes::new(),
            is_paused: false,
            head,
        }
    }
}

impl<S, E> Stream for Paced<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Into<BoxError>,
{
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_paused {
            self.is_paused = false;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_next(context)) {
                Some(Ok(bytes)) => self.rest = bytes,
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => return Poll::Ready(None),
            }
        }
        let length = self.rest.len().min(PIECE);
        if self.head.0.fetch_add(length, Ordering::Relaxed) > MAX_HEAD {
            return Poll::Ready(Some(Err(HeadTooLong.into())));
        }
        self.is_paused = true;
        Poll::Ready(Some(Ok(self.rest.split_to(length))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{StreamExt, stream};
    use multer::Multipart;
    use std::convert::Infallible;

    /// Reads a form whose body comes in chunks: the length of each part, or the bytes that were taken
    /// until the error.
    async fn lengths(chunks: Vec<Vec<u8>>) -> Result<Vec<usize>, usize> {
        let taken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&taken);
        let body = stream::iter(chunks).map(move |chunk| {
            count.fetch_add(chunk.len(), Ordering::Relaxed);
            Ok::<_, Infallible>(Bytes::from(chunk))
        });
        let head = Head::default();
        let mut parts = Multipart::new(Paced::new(body, head.clone()), "b");
        let read = async {
            let mut lengths = Vec::new();
            while let Some(mut part) = parts.next_field().await? {
                head.has_ended();
                let mut length = 0;
                while let Some(chunk) = part.chunk().await? {
                    head.has_ended();
                    length += chunk.len();
                }
                lengths.push(length);
            }
            Ok(lengths)
        };
        read.await.map_err(|error: multer::Error| {
            let is_expected =
                matches!(&error, multer::Error::StreamReadFailed(error) if error.is::<HeadTooLong>());
            assert!(is_expected, "{error}");
            taken.load(Ordering::Relaxed)
        })
    }

    fn part(content: usize) -> Vec<u8> {
        let head = b"--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n".to_vec();
        [head, vec![b'x'; content], b"\r\n".to_vec()].concat()
    }

    #[tokio::test]
    async fn what_comes_before_a_part_has_an_end() {
        let endless = |start: &[u8], chunk: usize| {
            let rest = vec![vec![b'x'; chunk]; (16 << 20) / chunk];
            std::iter::once(start.to_vec()).chain(rest).collect()
        };
        let header = b"--b\r\nX-Header: ".to_vec();
        let padding = [part(1 << 20), b"--b\r\nX-Header: ".to_vec()].concat();
        for start in [&b""[..], &header, &padding] {
            for chunk in [1000, 1 << 20] {
                let taken = lengths(endless(start, chunk)).await.unwrap_err();
                let allowed = start.len() + 2 * MAX_HEAD + chunk;
                assert!(
                    taken <= allowed,
                    "{taken} bytes were taken in chunks of {chunk}"
                );
            }
        }
    }

    #[tokio::test]
    async fn ordinary_forms_are_read_however_they_come() {
        let sizes = [0, 1, PIECE - 1, PIECE, 3 << 20, 5];
        let body: Vec<u8> = sizes.iter().flat_map(|size| part(*size)).collect();
        let preamble = vec![b'p'; 60_000];
        let body = [preamble, b"\r\n".to_vec(), body, b"--b--\r\n".to_vec()].concat();
        for chunk in [777, PIECE, 1 << 20, body.len()] {
            let chunks = body.chunks(chunk).map(<[u8]>::to_vec).collect();
            assert_eq!(
                lengths(chunks).await,
                Ok(sizes.to_vec()),
                "chunks of {chunk}"
            );
        }
    }
}
