//! A client of an NBD export that blocks: the least that a test needs.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const OPTION: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const GO: u32 = 7;
const ACK: u32 = 1;
const INFO: u32 = 3;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
const FUA: u16 = 1;

/// What a request may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read = 0,
    Write = 1,
    Flush = 3,
    Trim = 4,
    Zero = 6,
}

/// Why a request was not answered well.
#[derive(Debug, thiserror::Error)]
pub enum NbdError {
    /// The connection broke: nobody knows what became of the request.
    #[error("connection")]
    Broken(#[from] io::Error),
    /// The server says that it failed.
    #[error("the server answers with error {0}")]
    Refused(u32),
    /// The server does not speak the protocol.
    #[error("the server says {0:#x} where something else belongs")]
    Sense(u64),
}

/// One connection.
#[derive(Debug)]
pub struct NbdClient {
    stream: UnixStream,
    size_bytes: u64,
    cookie: u64,
}

impl NbdClient {
    /// Connects and opens the first export.
    ///
    /// # Errors
    /// [`NbdError`].
    pub fn connect(socket: &Path) -> Result<Self, NbdError> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let _greeting: [u8; 18] = array(&mut stream)?;
        // Fixed newstyle, no zeroes; then GO for the export without a name, asking for block sizes.
        let mut hello = 3_u32.to_be_bytes().to_vec();
        hello.extend(OPTION.to_be_bytes());
        hello.extend(GO.to_be_bytes());
        hello.extend(8_u32.to_be_bytes());
        hello.extend(0_u32.to_be_bytes());
        hello.extend([0, 1, 0, 3]);
        stream.write_all(&hello)?;
        let mut size_bytes = 0;
        loop {
            let magic = u64::from_be_bytes(array(&mut stream)?);
            let _option: [u8; 4] = array(&mut stream)?;
            let kind = u32::from_be_bytes(array(&mut stream)?);
            let len = u32::from_be_bytes(array(&mut stream)?);
            let mut body = vec![0; len as usize];
            stream.read_exact(&mut body)?;
            match kind {
                _ if magic != OPTION_REPLY => return Err(NbdError::Sense(magic)),
                ACK => break,
                INFO if body.len() == 12 => {
                    size_bytes = u64::from_be_bytes(array(&mut &body[2..10])?);
                }
                INFO => {}
                refused => return Err(NbdError::Sense(u64::from(refused))),
            }
        }
        Ok(Self {
            stream,
            size_bytes,
            cookie: 0,
        })
    }

    /// Returns the export's size.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Waits for answers no longer than this.
    ///
    /// # Errors
    /// What the system says.
    pub fn patience(&self, limit: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(limit))
    }

    /// Sends a write and does not wait; returns its cookie.
    ///
    /// # Errors
    /// [`NbdError::Broken`].
    pub fn send_write(&mut self, offset: u64, data: &[u8]) -> Result<u64, NbdError> {
        self.send(Kind::Write, 0, offset, data.len())?;
        self.stream.write_all(data)?;
        Ok(self.cookie)
    }

    /// Waits for the next answer to what was [sent](Self::send_write); returns its cookie.
    ///
    /// # Errors
    /// [`NbdError`].
    pub fn answer(&mut self) -> Result<u64, NbdError> {
        let magic = u32::from_be_bytes(array(&mut self.stream)?);
        let error = u32::from_be_bytes(array(&mut self.stream)?);
        let cookie = u64::from_be_bytes(array(&mut self.stream)?);
        match (magic, error) {
            (REPLY, 0) => Ok(cookie),
            (REPLY, error) => Err(NbdError::Refused(error)),
            (magic, _) => Err(NbdError::Sense(u64::from(magic))),
        }
    }

    /// Writes.
    ///
    /// # Errors
    /// [`NbdError`].
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), NbdError> {
        self.send_write(offset, data)?;
        self.answer().map(drop)
    }

    /// Writes, and has it made durable.
    ///
    /// # Errors
    /// [`NbdError`].
    pub fn write_durably(&mut self, offset: u64, data: &[u8]) -> Result<(), NbdError> {
        self.send(Kind::Write, FUA, offset, data.len())?;
        self.stream.write_all(data)?;
        self.answer().map(drop)
    }

    /// Reads.
    ///
    /// # Errors
    /// [`NbdError`].
    pub fn read(&mut self, offset: u64, len: usize) -> Result<Vec<u8>, NbdError> {
        self.send(Kind::Read, 0, offset, len)?;
        self.answer()?;
        let mut data = vec![0; len];
        self.stream.read_exact(&mut data)?;
        Ok(data)
    }

    /// Has everything that was answered made durable.
    ///
    /// # Errors
    /// [`NbdError`].
    pub fn flush(&mut self) -> Result<(), NbdError> {
        self.send(Kind::Flush, 0, 0, 0)?;
        self.answer().map(drop)
    }

    /// Writes zeros.
    ///
    /// # Errors
    /// [`NbdError`].
    pub fn zero(&mut self, offset: u64, len: usize) -> Result<(), NbdError> {
        self.send(Kind::Zero, 0, offset, len)?;
        self.answer().map(drop)
    }

    /// Gives a range up.
    ///
    /// # Errors
    /// [`NbdError`].
    pub fn trim(&mut self, offset: u64, len: usize) -> Result<(), NbdError> {
        self.send(Kind::Trim, 0, offset, len)?;
        self.answer().map(drop)
    }

    fn send(&mut self, kind: Kind, flags: u16, offset: u64, len: usize) -> Result<(), NbdError> {
        self.cookie += 1;
        let len = u32::try_from(len).map_err(io::Error::other)?;
        let mut request = REQUEST.to_be_bytes().to_vec();
        request.extend(flags.to_be_bytes());
        request.extend((kind as u16).to_be_bytes());
        request.extend(self.cookie.to_be_bytes());
        request.extend(offset.to_be_bytes());
        request.extend(len.to_be_bytes());
        Ok(self.stream.write_all(&request)?)
    }
}

fn array<const N: usize>(from: &mut impl io::Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}
