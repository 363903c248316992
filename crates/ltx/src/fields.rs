//! PURE. Fixed-width fields of a record, big endian, one after the other.

/// Takes fields off the front of a record.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn new(record: &'a [u8]) -> Self {
        Self(record)
    }

    /// Takes the next `N` bytes. The caller's record is as long as its fields: a shorter one is a mistake of ours.
    pub(crate) fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().expect("a field of the record");
        self.0 = rest;
        *field
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }

    pub(crate) fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.take())
    }
}

/// Puts fields into a record, from its front.
pub(crate) struct Sink<'a>(&'a mut [u8]);

impl<'a> Sink<'a> {
    pub(crate) fn new(record: &'a mut [u8]) -> Self {
        Self(record)
    }

    pub(crate) fn put(&mut self, field: &[u8]) {
        let (here, rest) = std::mem::take(&mut self.0).split_at_mut(field.len());
        here.copy_from_slice(field);
        self.0 = rest;
    }
}
