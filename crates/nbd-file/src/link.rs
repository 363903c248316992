//! A connection to the server.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use nbd::{Client, Heard};

/// How long a server may take for a word of the negotiation.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// An open export.
pub(crate) struct Link {
    pub(crate) stream: UnixStream,
    pub(crate) client: Client,
    pub(crate) bytes: u64,
    pub(crate) read_only: bool,
    pub(crate) minimum_block: u32,
}

impl Link {
    /// Opens the export `name` of the server at `socket`.
    pub(crate) fn open(socket: &Path, name: &str) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
        stream.set_write_timeout(Some(HANDSHAKE_TIMEOUT))?;
        let mut client = Client::new(name);
        let mut buffer = [0; 4096];
        loop {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut input = &buffer[..count];
            while let Some(heard) = client.receive(&mut input).map_err(invalid)? {
                match heard {
                    Heard::Send(bytes) => stream.write_all(&bytes)?,
                    Heard::Opened {
                        bytes,
                        read_only,
                        minimum_block,
                    } => {
                        // Requests take as long as they take: a disk does not give up.
                        stream.set_read_timeout(None)?;
                        stream.set_write_timeout(None)?;
                        return Ok(Self {
                            stream,
                            client,
                            bytes,
                            read_only,
                            minimum_block,
                        });
                    }
                    _ => return Err(io::ErrorKind::InvalidData.into()),
                }
            }
        }
    }

    /// Takes leave. Nothing may be under way.
    pub(crate) fn leave(mut self) {
        // It is as gone as after an answer.
        let _ = self.stream.write_all(&Client::leave());
    }
}

pub(crate) fn invalid(error: nbd::ClientError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
