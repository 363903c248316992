//! The network block device protocol (NBD), fixed newstyle: what each side says next, without a socket in it.
//!
//! [`Server`] is one connection seen from the server's side. Whoever drives it receives bytes, hands them over, sends what
//! it is given to send, and answers requests in any order. What a write brings is never handed over: the session says that
//! so many bytes follow, and the driver puts them where it wants them. An answer is a [`Head`] of a few bytes, followed by
//! bytes that are the driver's own. Nothing there waits, allocates by what a peer claims, or trusts a length. [`Client`] is the
//! other side, in the same manner, and [`Connection`] the plainest driver of a server, over any stream.
//!
//! Source: `doc/proto.md` of the NBD project. Not spoken: TLS, extended headers, resizing of an open export.

mod client;
mod connection;
mod errno;
mod export;
mod fields;
mod head;
mod server;
mod wire;

pub use client::{Ask, Client, ClientError, Heard};
pub use connection::Connection;
pub use errno::Errno;
pub use export::{BlockSizes, BlockSizesError, Export};
pub use head::Head;
pub use server::{
    Closed, Event, Extent, Part, Piece, Read, Request, STATUS_EXTENTS_MAX, Server, Span, Status, Ticket,
    Violation,
};
pub use wire::{NAME_BYTES_MAX, OPTION_BYTES_MAX, PAYLOAD_BYTES_MAX};
