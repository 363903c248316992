//! The protocol between a machine's host and the PID 1 of its guest.
//!
//! Two virtio-serial ports carry it, each a byte stream that both sides may lose sight of at any byte (the
//! daemon restarts, the guest is suspended and resumed):
//!
//! * [`AGENT_PORT`]: handshake, configuration, requests with their replies, events, exec streams.
//! * [`LOG_PORT`]: what the workload writes, streams [`StreamId::LOG_STDOUT`] and [`StreamId::LOG_STDERR`].
//!
//! Layers, each pure: [`frame`] cuts the bytes into frames and finds the start of a session at any offset;
//! [`flow`] is the credit that bounds what is under way per stream; [`message`] and [`config`] are the JSON
//! bodies; [`session`] puts them together for both ends without any input or output of its own.
//!
//! A session is begun by the host and by the host alone: it sends [`frame::SYNC`] and a
//! [`message::HostHello`] with a random id, the guest answers [`frame::SYNC`] and a [`message::Hello`] with
//! the same id. Whatever either side had under way is void from there on: exec sessions of an earlier session
//! are killed, unacknowledged events are sent again.

pub mod config;
pub mod flow;
pub mod frame;
pub mod message;
pub mod session;

pub use config::GuestConfig;
pub use frame::{Channel, StreamId};
pub use message::{Event, Hello, HostHello, Reply, Request};
pub use session::{Incoming, Session, SessionError};

/// Name of the virtio-serial port for control.
pub const AGENT_PORT: &str = "agent.0";

/// Name of the virtio-serial port for what the workload writes.
pub const LOG_PORT: &str = "log.0";

/// Oldest protocol version this build speaks.
pub const VERSION_MIN: u16 = 1;

/// Newest protocol version this build speaks.
pub const VERSION_MAX: u16 = 1;

/// Longest serial number that virtio-blk carries, in bytes; a volume's id is cut to it.
pub const SERIAL_BYTES_MAX: usize = 20;

/// Returns the virtio serial of the device that carries the volume `volume_id`: its first
/// [`SERIAL_BYTES_MAX`] bytes.
pub fn serial_of(volume_id: &str) -> &str {
    let mut end = volume_id.len().min(SERIAL_BYTES_MAX);
    while !volume_id.is_char_boundary(end) {
        end -= 1;
    }
    &volume_id[..end]
}
