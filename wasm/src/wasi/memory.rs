//! The memory of an instance, with every address checked.

use super::Refusal;
use super::errno::{FAULT, INVAL};

/// The longest list of buffers, and the longest name, that is taken.
const MAX_LENGTH: u32 = 64 * 1024;

pub(super) struct Memory<'a>(pub(super) &'a mut [u8]);

impl Memory<'_> {
    pub(super) fn bytes(&mut self, at: u32, length: u32) -> Result<&mut [u8], Refusal> {
        let (at, length) = (at as usize, length as usize);
        let end = at.checked_add(length).ok_or(FAULT)?;
        self.0.get_mut(at..end).ok_or(FAULT.into())
    }

    fn array<const N: usize>(&mut self, at: u32) -> Result<[u8; N], Refusal> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(at, N as u32)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self, at: u32) -> Result<u8, Refusal> {
        Ok(self.array::<1>(at)?[0])
    }

    pub(super) fn u16(&mut self, at: u32) -> Result<u16, Refusal> {
        Ok(u16::from_le_bytes(self.array(at)?))
    }

    pub(super) fn u32(&mut self, at: u32) -> Result<u32, Refusal> {
        Ok(u32::from_le_bytes(self.array(at)?))
    }

    pub(super) fn u64(&mut self, at: u32) -> Result<u64, Refusal> {
        Ok(u64::from_le_bytes(self.array(at)?))
    }

    pub(super) fn put(&mut self, at: u32, bytes: &[u8]) -> Result<(), Refusal> {
        let length = u32::try_from(bytes.len()).map_err(|_| FAULT)?;
        self.bytes(at, length)?.copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn put_u32(&mut self, at: u32, value: u32) -> Result<(), Refusal> {
        self.put(at, &value.to_le_bytes())
    }

    pub(super) fn put_u64(&mut self, at: u32, value: u64) -> Result<(), Refusal> {
        self.put(at, &value.to_le_bytes())
    }

    pub(super) fn text(&mut self, at: u32, length: u32) -> Result<String, Refusal> {
        if length > MAX_LENGTH {
            return Err(INVAL.into());
        }
        let bytes = self.bytes(at, length)?.to_vec();
        String::from_utf8(bytes).map_err(|_| INVAL.into())
    }

    /// Addresses and lengths of buffers.
    pub(super) fn buffers(&mut self, at: u32, count: u32) -> Result<Vec<(u32, u32)>, Refusal> {
        if count > MAX_LENGTH {
            return Err(INVAL.into());
        }
        (0..count)
            .map(|index| {
                let at = at.checked_add(index * 8).ok_or(FAULT)?;
                Ok((self.u32(at)?, self.u32(at.checked_add(4).ok_or(FAULT)?)?))
            })
            .collect()
    }
}
