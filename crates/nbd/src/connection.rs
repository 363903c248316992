//! A session on a stream, for whoever has a thread for each connection.

use std::io::{self, Read, Write};

use crate::{Closed, Event, Export, Piece, Request, Server};

const BUFFER_BYTES: usize = 64 * 1024;

/// One connection: hands out requests with their payloads, and sends answers.
///
/// One request at a time: the next is received when it is asked for. Who wants more under way drives a [`Server`].
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    server: Server,
    buffer: Vec<u8>,
    /// What of the buffer was received and not looked at yet.
    begin: usize,
    end: usize,
}

impl<S: Read + Write> Connection<S> {
    /// Begins a session: greets the client.
    ///
    /// # Errors
    ///
    /// When the stream breaks.
    pub fn greet(mut stream: S) -> io::Result<Self> {
        stream.write_all(&Server::greeting())?;
        Ok(Self {
            stream,
            server: Server::new(),
            buffer: vec![0; BUFFER_BYTES],
            begin: 0,
            end: 0,
        })
    }

    /// Waits for the next request and returns it with its payload, which only a write has; `None` when the client has left.
    /// What can be opened is `exports`, as long as nothing was.
    ///
    /// # Errors
    ///
    /// When the stream breaks, or with [`io::ErrorKind::InvalidData`] when the client violates the protocol.
    pub fn next(&mut self, exports: &[Export]) -> io::Result<Option<(Request, Vec<u8>)>> {
        loop {
            let mut input = &self.buffer[self.begin..self.end];
            let event = self.server.receive(exports, &mut input);
            self.begin = self.end - input.len();
            match event {
                Some(Event::Send(bytes)) => self.stream.write_all(&bytes)?,
                Some(Event::Opened(_)) => {}
                Some(Event::Request(request)) => return Ok(Some((request, self.payload()?))),
                Some(Event::Closed(Closed::Violation(violation))) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, violation));
                }
                Some(Event::Closed(_)) => return Ok(None),
                None => {
                    self.begin = 0;
                    self.end = self.stream.read(&mut self.buffer)?;
                    if self.end == 0 {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn payload(&mut self) -> io::Result<Vec<u8>> {
        let bytes = self.server.payload();
        let mut payload = vec![0; bytes as usize];
        let count = payload.len().min(self.end - self.begin);
        let (here, rest) = payload.split_at_mut(count);
        here.copy_from_slice(&self.buffer[self.begin..self.begin + count]);
        self.begin += count;
        self.stream.read_exact(rest)?;
        self.server.payload_taken(bytes);
        Ok(payload)
    }

    /// Sends an answer's bytes.
    ///
    /// # Errors
    ///
    /// When the stream breaks.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends the pieces of an answer to a read, of which `data` is the whole span.
    ///
    /// # Errors
    ///
    /// When the stream breaks.
    pub fn send_pieces(&mut self, pieces: &[Piece], data: &[u8]) -> io::Result<()> {
        for piece in pieces {
            match *piece {
                Piece::Head(head) => self.stream.write_all(&head)?,
                Piece::Data { at, bytes } => self.stream.write_all(&data[at as usize..][..bytes as usize])?,
                Piece::Zeros(bytes) => {
                    io::copy(&mut io::repeat(0).take(bytes.into()), &mut self.stream)?;
                }
            }
        }
        Ok(())
    }

    /// Returns the stream.
    pub fn into_stream(self) -> S {
        self.stream
    }
}
