//! What travels in an inbox: frames, each an entry of a stream.
//!
//! A frame is a version, a kind, the id of its link, a number, the length of the sender's name, that name, and bytes:
//! `u8 u8 u64 u64 u16`, little-endian. No bytes make reading it fail otherwise than with `None`.

use std::sync::Arc;

/// The first byte of each frame.
const VERSION: u8 = 1;
/// Bytes before the name of the sender.
const HEAD: usize = 20;
/// Bytes of the reason of a reset.
const MAX_REASON: usize = 200;
/// Bytes of one frame of data.
pub(crate) const MAX_DATA: usize = 64 * 1024;

/// A part of what two ends of a link say to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The process that says it.
    pub(crate) from: Arc<str>,
    /// The link, by the id that who opened it has chosen.
    pub(crate) link: u64,
    pub(crate) body: Body,
}

/// What a frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    /// The link begins; the sender lives in this epoch. It is number 0 of who opens.
    Open { epoch: u64 },
    /// Bytes of the stream.
    Data { number: u64, bytes: Vec<u8> },
    /// No more bytes come.
    End { number: u64 },
    /// So many bytes were taken since the link began.
    Credit { taken: u64 },
    /// The link is over, and why.
    Reset { reason: String },
}

impl Frame {
    /// As it stands in an entry.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (kind, number, bytes): (u8, u64, &[u8]) = match &self.body {
            Body::Open { epoch } => (0, *epoch, &[]),
            Body::Data { number, bytes } => (1, *number, bytes),
            Body::End { number } => (2, *number, &[]),
            Body::Credit { taken } => (3, *taken, &[]),
            Body::Reset { reason } => (4, 0, cut(reason)),
        };
        // Names of processes have at most 100 characters.
        let from = u16::try_from(self.from.len()).unwrap_or(u16::MAX);
        let mut encoded = Vec::with_capacity(HEAD + self.from.len() + bytes.len());
        encoded.extend([VERSION, kind]);
        encoded.extend(self.link.to_le_bytes());
        encoded.extend(number.to_le_bytes());
        encoded.extend(from.to_le_bytes());
        encoded.extend(self.from.bytes().take(usize::from(from)));
        encoded.extend(bytes);
        encoded
    }

    /// What an entry says; `None` if it is no frame.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let number = |at: usize| {
            let bytes = head.get(at..at + 8)?.try_into().ok()?;
            Some(u64::from_le_bytes(bytes))
        };
        let (link, number) = (number(2)?, number(10)?);
        let from = u16::from_le_bytes(head.get(18..20)?.try_into().ok()?);
        let (from, bytes) = rest.split_at_checked(usize::from(from))?;
        let from = std::str::from_utf8(from).ok()?;
        if head[0] != VERSION || from.is_empty() || bytes.len() > MAX_DATA {
            return None;
        }
        let body = match (head[1], bytes.is_empty()) {
            (0, true) => Body::Open { epoch: number },
            (1, false) => Body::Data {
                number,
                bytes: bytes.to_vec(),
            },
            (2, true) => Body::End { number },
            (3, true) => Body::Credit { taken: number },
            (4, _) => Body::Reset {
                reason: String::from_utf8_lossy(bytes).into_owned(),
            },
            _ => return None,
        };
        Some(Self {
            from: from.into(),
            link,
            body,
        })
    }
}

/// As much of a reason as is told.
fn cut(reason: &str) -> &[u8] {
    let end = (0..=reason.len().min(MAX_REASON)).rev();
    let end = { end }.find(|at| reason.is_char_boundary(*at));
    &reason.as_bytes()[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn body() -> impl Strategy<Value = Body> {
        prop_oneof![
            any::<u64>().prop_map(|epoch| Body::Open { epoch }),
            (any::<u64>(), proptest::collection::vec(any::<u8>(), 1..200))
                .prop_map(|(number, bytes)| Body::Data { number, bytes }),
            any::<u64>().prop_map(|number| Body::End { number }),
            any::<u64>().prop_map(|taken| Body::Credit { taken }),
            "[a-z ü]{0,40}".prop_map(|reason| Body::Reset { reason }),
        ]
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(from in "[a-z0-9ü-]{1,100}", link: u64, body in body()) {
            let frame = Frame { from: from.as_str().into(), link, body };
            prop_assert_eq!(Frame::decode(&frame.encode()), Some(frame));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Frame::decode(&bytes);
        }
    }

    #[test]
    fn what_is_too_large_or_nothing_is_no_frame() {
        let frame = |bytes: Vec<u8>| Frame {
            from: "p".into(),
            link: 1,
            body: Body::Data { number: 1, bytes },
        };
        assert!(Frame::decode(&frame(vec![0; MAX_DATA]).encode()).is_some());
        assert!(Frame::decode(&frame(vec![0; MAX_DATA + 1]).encode()).is_none());
        assert!(Frame::decode(&frame(Vec::new()).encode()).is_none());
        assert!(Frame::decode(b"").is_none());
    }

    #[test]
    fn long_reasons_are_cut_between_characters() {
        assert_eq!(cut(&"ü".repeat(150)).len(), MAX_REASON);
        assert_eq!(cut(&format!("x{}", "ü".repeat(150))).len(), MAX_REASON - 1);
    }
}
