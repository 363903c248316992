//! PURE. Fixed-width fields, little endian, one after the other.

/// Takes fields off the front of bytes that may end too soon.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(field)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Six bytes.
    pub(crate) fn u48(&mut self) -> Option<u64> {
        let [a, b, c, d, e, f] = self.array()?;
        Some(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// How many items of `each` bytes can still follow: what bounds every allocation.
    pub(crate) fn room_for(&self, each: usize) -> usize {
        self.0.len() / each
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Puts fields at the end of a growing record.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);

    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    fn put_u48(&mut self, value: u64) {
        assert!(value < 1 << 48, "{value} does not fit into six bytes");
        self.put(&value.to_le_bytes()[..6]);
    }

    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    /// A count or length that our own limits keep below 2^32.
    fn put_len(&mut self, value: usize) {
        let Ok(value) = u32::try_from(value) else {
            panic!("{value} does not fit into four bytes")
        };
        self.put_u32(value);
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// A magic and the version after it, as every format of ours begins.
pub(crate) fn begin(fields: &mut Fields<'_>, magic: [u8; 4], version: u16) -> Result<(), crate::Flaw> {
    if fields.array() != Some(magic) {
        return Err(crate::Flaw::Magic);
    }
    match fields.u16() {
        Some(found) if found == version => Ok(()),
        Some(found) => Err(crate::Flaw::Version { found }),
        None => Err(crate::Flaw::Cut),
    }
}

/// The bytes before the CRC-32 that `bytes` end with.
pub(crate) fn check_crc(bytes: &[u8]) -> Result<&[u8], crate::Flaw> {
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or(crate::Flaw::Cut)?;
    if crc32fast::hash(body).to_le_bytes() == *crc {
        Ok(body)
    } else {
        Err(crate::Flaw::Checksum)
    }
}
