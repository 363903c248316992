//! PURE. Fields of messages, big endian, one after the other.

/// Takes fields off the front of a message; `None` where it ends too early.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    /// Takes a length of four bytes and as many bytes.
    pub(crate) fn counted(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u32()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Takes as many bytes as are missing from `held` to make `bytes` off the front of `input`; tells whether it is whole.
pub(crate) fn gather(held: &mut Vec<u8>, input: &mut &[u8], bytes: usize) -> bool {
    let count = bytes.saturating_sub(held.len()).min(input.len());
    let (here, rest) = input.split_at(count);
    held.extend_from_slice(here);
    *input = rest;
    held.len() >= bytes
}
