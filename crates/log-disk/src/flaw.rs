//! PURE. What can be wrong with bytes.

/// Why bytes are not what a format asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// They end before the format does.
    #[error("it ends too soon")]
    Cut,
    /// They begin otherwise than the format.
    #[error("it is of another kind")]
    Magic,
    /// A format of ours that this program does not know.
    #[error("version {found} is not known here")]
    Version {
        /// What stands there.
        found: u16,
    },
    /// A CRC-32 does not fit.
    #[error("its checksum does not fit")]
    Checksum,
    /// The seal does not open: other bytes, another place, or another key.
    #[error("its seal does not open")]
    Seal,
    /// Checksums fit, but a field cannot be.
    #[error("its fields contradict each other")]
    Fields,
    /// It belongs to another disk, or to another place.
    #[error("it belongs elsewhere")]
    Elsewhere,
    /// What it holds does not decompress to what it says.
    #[error("it does not decompress")]
    Compression,
}
