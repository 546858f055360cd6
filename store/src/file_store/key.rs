//! The keys of files.

use crate::now_ms;

/// Digits of a key.
const KEY_LENGTH: usize = 32;
/// Keys lie on so many shelves, by their last two digits.
pub(crate) const SHELVES: u32 = 256;

/// Where a key lies below the root of all: `a/b/<key>`. None: it cannot be a key.
pub(super) fn shelf_of(key: &str) -> Option<[char; 2]> {
    match key.as_bytes() {
        [.., a, b] if is_key(key) => Some([char::from(*a), char::from(*b)]),
        _ => None,
    }
}

/// The digits of a shelf.
pub(super) fn digits_of(shelf: u32) -> [String; 2] {
    [shelf >> 4, shelf].map(|digit| format!("{:x}", digit & 15))
}

pub(super) fn is_key(name: &str) -> bool {
    name.len() == KEY_LENGTH
        && name
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

pub(super) fn new_key() -> String {
    format!("{:012x}{}", now_ms(), hexadecimal(&random::<10>()))
}

/// Bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[expect(clippy::expect_used, reason = "without randomness no secret is one")]
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n)]);
    let digits = bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_time_and_never_the_same() {
        let mut keys: Vec<_> = (0..1000).map(|_| new_key()).collect();
        assert!(keys.iter().all(|key| is_key(key)));
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 1000);
    }
}
