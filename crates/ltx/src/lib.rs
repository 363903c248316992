//! LTX files: what transactions did to a SQLite database, page by page.
//!
//! A file says which transactions it holds, the pages as they were after the last of them, how many the database then
//! has, and its checksum before and after. Files are written with [`Encoder`], read with [`Decoder`], checked with
//! [`verify`] and merged with [`compact`]. All of it streams: no file needs to fit into memory. There is no clock, no
//! task and no file system here: bytes come from a [`std::io::Read`] and go to a [`std::io::Write`].
//!
//! The bytes stand in `docs/formats/ltx.md`.

mod checksum;
mod compactor;
mod decoder;
mod encoder;
mod fields;
mod file_name;
mod header;
mod index;
mod node_id;
mod page;
mod page_order;
mod part;
mod pos;
mod source;
mod trailer;
mod txid;
mod version;

pub use checksum::Checksum;
pub use compactor::{CompactError, compact};
pub use decoder::{DecodeError, Decoded, Decoder, verify};
pub use encoder::{EncodeError, Encoded, Encoder};
pub use file_name::{FileName, ParseFileNameError};
pub use header::{Flags, HEADER_BYTES, Header, HeaderError, WalSpan};
pub use node_id::{NodeId, ParseNodeIdError};
pub use page::{PageSize, Pgno};
pub use page_order::PageOrderError;
pub use part::Part;
pub use pos::{ParsePosError, Pos};
pub use trailer::{PostApplyError, TRAILER_BYTES, Trailer};
pub use txid::{ParseHexError, Txid};
pub use version::Version;

#[cfg(test)]
mod tests;
