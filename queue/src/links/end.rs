//! One end of a link: what it has got, what it may send. It does no I/O.
//!
//! Frames that end or carry bytes are numbered. One that came before is dropped, one that is missing breaks the link: so
//! bytes come in order and once, or not at all. Who sends has at most [`WINDOW`] bytes on their way that the other end has
//! not taken.

use std::collections::VecDeque;

use super::frame::MAX_DATA;

/// Bytes that may be on their way in one direction of a link: in Redis, or in the memory of who does not read them.
pub(crate) const WINDOW: u64 = 512 * 1024;
/// Bytes that were taken without having said so.
const UNTOLD: u64 = WINDOW / 4;

/// One end.
#[derive(Debug)]
pub(crate) struct End {
    /// The number of the next frame that comes.
    expected: u64,
    /// What came and was not taken.
    parts: VecDeque<(Vec<u8>, usize)>,
    /// Bytes that came.
    came: u64,
    /// Bytes that were taken, and up to where the other end knows it.
    taken: u64,
    told: u64,
    has_ended: bool,
    /// The number of the next frame that goes.
    next: u64,
    /// Bytes that went, and those that the other end has taken.
    sent: u64,
    acknowledged: u64,
    is_shut: bool,
    broken: Option<String>,
}

/// What is wrong with what came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Breach {
    /// Something was lost on the way.
    #[error("a frame is missing")]
    Gap,
    /// More came than may.
    #[error("more came than there is room for")]
    Window,
    /// Something came after the end.
    #[error("bytes came after the end")]
    AfterEnd,
    /// What was never sent was taken.
    #[error("more was taken than was sent")]
    Credit,
}

impl End {
    /// The end of who opens the link: its first frame is the opening.
    pub(crate) fn opener() -> Self {
        Self::new(1, 0)
    }

    /// The end of who accepts it.
    pub(crate) fn acceptor() -> Self {
        Self::new(0, 1)
    }

    fn new(next: u64, expected: u64) -> Self {
        Self {
            expected,
            parts: VecDeque::new(),
            came: 0,
            taken: 0,
            told: 0,
            has_ended: false,
            next,
            sent: 0,
            acknowledged: 0,
            is_shut: false,
            broken: None,
        }
    }

    /// Bytes came. Nothing is changed where they came before.
    ///
    /// # Errors
    /// They cannot follow what came before.
    pub(crate) fn come(&mut self, number: u64, bytes: Vec<u8>) -> Result<(), Breach> {
        if !self.is_next(number)? {
            return Ok(());
        }
        let size = bytes.len() as u64;
        if self.came - self.taken + size > WINDOW {
            return Err(Breach::Window);
        }
        self.came += size;
        self.parts.push_back((bytes, 0));
        Ok(())
    }

    /// The end came.
    ///
    /// # Errors
    /// It cannot follow what came before.
    pub(crate) fn come_end(&mut self, number: u64) -> Result<(), Breach> {
        self.has_ended |= self.is_next(number)?;
        Ok(())
    }

    fn is_next(&mut self, number: u64) -> Result<bool, Breach> {
        if number < self.expected {
            return Ok(false);
        }
        if number > self.expected {
            return Err(Breach::Gap);
        }
        if self.has_ended {
            return Err(Breach::AfterEnd);
        }
        self.expected += 1;
        Ok(true)
    }

    /// The other end has taken so much.
    ///
    /// # Errors
    /// That was never sent.
    pub(crate) fn credit(&mut self, taken: u64) -> Result<(), Breach> {
        if taken > self.sent {
            return Err(Breach::Credit);
        }
        self.acknowledged = self.acknowledged.max(taken);
        Ok(())
    }

    /// Takes up to so many bytes of what came; `None` if there are none.
    pub(crate) fn take(&mut self, most: usize) -> Option<&[u8]> {
        if self
            .parts
            .front()
            .is_some_and(|(part, at)| *at == part.len())
        {
            self.parts.pop_front();
        }
        let (part, at) = self.parts.front_mut()?;
        let from = *at;
        *at = part.len().min(from + most);
        self.taken += (*at - from) as u64;
        Some(&part[from..*at])
    }

    /// How much was taken, if the other end is to be told now.
    pub(crate) fn untold(&mut self) -> Option<u64> {
        let is_due = self.taken - self.told >= UNTOLD || self.taken == self.came;
        let is_new = self.taken > self.told && is_due;
        is_new.then(|| {
            self.told = self.taken;
            self.taken
        })
    }

    /// Makes room for up to so many bytes to be sent: their number, and how many. `None` if there is no room.
    pub(crate) fn send(&mut self, most: usize) -> Option<(u64, usize)> {
        let room = WINDOW - (self.sent - self.acknowledged);
        let size = usize::try_from(room).unwrap_or(usize::MAX);
        let size = size.min(most).min(MAX_DATA);
        if size == 0 {
            return None;
        }
        self.sent += size as u64;
        self.next += 1;
        Some((self.next - 1, size))
    }

    /// The number of the end, if it was not sent yet.
    pub(crate) fn shut(&mut self) -> Option<u64> {
        if self.is_shut {
            return None;
        }
        self.is_shut = true;
        self.next += 1;
        Some(self.next - 1)
    }

    /// Nothing comes or goes any more.
    pub(crate) fn break_off(&mut self, reason: &str) {
        self.broken.get_or_insert_with(|| reason.to_owned());
    }

    /// Why nothing comes or goes any more, if that is so.
    pub(crate) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Whether all came that comes.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether the end was sent.
    pub(crate) fn is_shut(&self) -> bool {
        self.is_shut
    }

    /// Bytes that went, and those of them that the other end has taken.
    pub(crate) fn progress(&self) -> (u64, u64) {
        (self.sent, self.acknowledged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Takes all that is there.
    fn take_all(end: &mut End) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(part) = end.take(1000) {
            all.extend_from_slice(part);
        }
        all
    }

    proptest! {
        #[test]
        fn bytes_come_in_order_and_once_however_often_they_are_sent(
            texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 1..30),
            again in proptest::collection::vec(any::<prop::sample::Index>(), 0..30),
        ) {
            let (mut one, mut other) = (End::opener(), End::acceptor());
            let mut sent: Vec<(u64, Vec<u8>)> = Vec::new();
            let mut again = again.into_iter();
            for text in &texts {
                let (number, size) = one.send(text.len()).unwrap();
                prop_assert_eq!(size, text.len());
                sent.push((number, text.clone()));
                other.come(number, text.clone()).unwrap();
                if let Some(index) = again.next() {
                    // A batch that was sent again from there on.
                    for (number, text) in &sent[index.index(sent.len())..] {
                        other.come(*number, text.clone()).unwrap();
                    }
                }
            }
            prop_assert_eq!(take_all(&mut other), texts.concat());
            let number = one.shut().unwrap();
            other.come_end(number).unwrap();
            other.come_end(number).unwrap();
            prop_assert!(other.has_ended());
            prop_assert_eq!(one.shut(), None);
        }

        #[test]
        fn what_is_missing_is_noticed(count in 2..20_usize, lost: prop::sample::Index) {
            let (mut one, mut other) = (End::opener(), End::acceptor());
            // The last one is missed by the one after it.
            let lost = lost.index(count - 1);
            let mut came = Ok(());
            for at in 0..count {
                let (number, _) = one.send(1).unwrap();
                if at != lost {
                    came = came.and_then(|()| other.come(number, vec![0]));
                }
            }
            prop_assert_eq!(came, Err(Breach::Gap));
        }

        #[test]
        fn no_more_is_on_its_way_than_the_window(steps in proptest::collection::vec((any::<bool>(), 1..200_000_usize), 1..200)) {
            let (mut one, mut other) = (End::opener(), End::acceptor());
            let mut expected = 0_u64;
            for (is_write, size) in steps {
                if is_write {
                    if let Some((number, size)) = one.send(size) {
                        other.come(number, vec![0; size]).unwrap();
                        expected += size as u64;
                    }
                } else if let Some(part) = other.take(size) {
                    prop_assert!(part.len() <= size);
                }
                if let Some(taken) = other.untold() {
                    one.credit(taken).unwrap();
                }
                let (sent, acknowledged) = one.progress();
                prop_assert_eq!(sent, expected);
                prop_assert!(sent - acknowledged <= WINDOW);
                prop_assert!(other.came - other.taken <= WINDOW);
                // Who has taken all has said so, so that nobody waits for ever.
                prop_assert!(other.taken < other.came || other.told == other.taken);
            }
        }
    }

    #[test]
    fn who_sends_more_than_may_is_in_breach() {
        let mut end = End::acceptor();
        for number in 0..WINDOW / MAX_DATA as u64 {
            end.come(number + 1, vec![0; MAX_DATA]).unwrap();
        }
        assert_eq!(
            end.come(WINDOW / MAX_DATA as u64 + 1, vec![0]),
            Err(Breach::Window)
        );
        assert_eq!(End::opener().credit(1), Err(Breach::Credit));
    }

    #[test]
    fn nothing_comes_after_the_end() {
        let mut end = End::acceptor();
        end.come_end(1).unwrap();
        assert_eq!(end.come(2, vec![0]), Err(Breach::AfterEnd));
        assert_eq!(end.come(1, vec![0]), Ok(()), "one that came before");
        assert_eq!(end.take(1), None);
    }

    #[test]
    fn a_window_that_is_full_opens_with_credit() {
        let mut end = End::opener();
        let mut sent = 0;
        while let Some((_, size)) = end.send(usize::MAX) {
            sent += size as u64;
        }
        assert_eq!(sent, WINDOW);
        end.credit(10).unwrap();
        end.credit(5).unwrap();
        assert_eq!(end.send(100).map(|(_, size)| size), Some(10));
        assert_eq!(end.send(100), None);
    }
}
