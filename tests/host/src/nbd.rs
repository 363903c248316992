//! An NBD server for one client: fixed newstyle, simple replies, as much of the protocol as QEMU's client speaks.
//!
//! Source: the NBD project's `doc/proto.md`.

use std::{
    io::{self, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{Arc, Mutex},
};

use crate::{machine::lock, volatile_disk::VolatileDisk};

const MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;

/// Fixed newstyle, and no zeros after the answer to `EXPORT_NAME`.
const HANDSHAKE: u16 = 0b11;
/// Has flags, takes flush, FUA, trim, write zeroes.
const EXPORT: u16 = 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6;

const OPTION_EXPORT_NAME: u32 = 1;
const OPTION_ABORT: u32 = 2;
const OPTION_INFO: u32 = 6;
const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_UNSUPPORTED: u32 = 1 << 31 | 1;
const INFO_EXPORT: u16 = 0;

const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;
const TRIM: u16 = 4;
const WRITE_ZEROES: u16 = 6;
const FLAG_FUA: u16 = 1;
const INVALID: u32 = 22;
/// Longest option and longest request that a client of ours sends.
const BYTES_MAX: u32 = 64 << 20;

/// Decides about every request that changes the disk.
pub(crate) trait Power: Send {
    /// Tells whether the power fails now, before the next request.
    fn fails(&mut self) -> bool;

    /// Hears that it did: from now on nothing reaches the disk, and nothing is answered.
    fn failed(&mut self);
}

/// Waits for one client in a thread of its own, and serves `disk` until it leaves or the power fails.
pub(crate) fn serve(
    socket: &Path,
    disk: Arc<Mutex<VolatileDisk>>,
    mut power: impl Power + 'static,
) -> io::Result<()> {
    let listener = UnixListener::bind(socket)?;
    std::thread::Builder::new().name("nbd".into()).spawn(move || {
        let served = listener
            .accept()
            .and_then(|(stream, _)| converse(stream, &disk, &mut power));
        if let Err(error) = served
            && !matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
            )
        {
            eprintln!("nbd: {error}");
        }
    })?;
    Ok(())
}

fn converse(mut stream: UnixStream, disk: &Mutex<VolatileDisk>, power: &mut impl Power) -> io::Result<()> {
    let bytes = lock(disk).len();
    if !negotiate(&mut stream, bytes)? {
        return Ok(());
    }
    while let Some(request) = Request::read(&mut stream)? {
        if request.changes() && power.fails() {
            request.reach_the_cache(&mut lock(disk));
            power.failed();
            // The connection stays, silent: an error would tell the guest, which a power cut does not.
            return wait_for_the_end(stream);
        }
        let mut reply = Vec::new();
        let error = request.carry_out(&mut lock(disk), &mut reply);
        stream.write_all(&REPLY_MAGIC.to_be_bytes())?;
        stream.write_all(&error.to_be_bytes())?;
        stream.write_all(&request.handle)?;
        stream.write_all(&reply)?;
    }
    Ok(())
}

fn wait_for_the_end(mut stream: UnixStream) -> io::Result<()> {
    io::copy(&mut stream, &mut io::sink()).map(|_| ())
}

/// Agrees with the client about the export; `false` when it only wanted to ask.
fn negotiate(stream: &mut UnixStream, disk_bytes: u64) -> io::Result<bool> {
    stream.write_all(&MAGIC.to_be_bytes())?;
    stream.write_all(&OPTION_MAGIC.to_be_bytes())?;
    stream.write_all(&HANDSHAKE.to_be_bytes())?;
    read::<4>(stream)?;
    loop {
        let magic = u64::from_be_bytes(read(stream)?);
        if magic != OPTION_MAGIC {
            return Err(broken("an option without its magic"));
        }
        let option = u32::from_be_bytes(read(stream)?);
        let len = u32::from_be_bytes(read(stream)?);
        if len > BYTES_MAX {
            return Err(broken("an option too long"));
        }
        let mut data = vec![0; len as usize];
        stream.read_exact(&mut data)?;
        match option {
            OPTION_EXPORT_NAME => {
                stream.write_all(&disk_bytes.to_be_bytes())?;
                stream.write_all(&EXPORT.to_be_bytes())?;
                return Ok(true);
            }
            OPTION_INFO | OPTION_GO => {
                let mut info = INFO_EXPORT.to_be_bytes().to_vec();
                info.extend(disk_bytes.to_be_bytes());
                info.extend(EXPORT.to_be_bytes());
                answer(stream, option, REPLY_INFO, &info)?;
                answer(stream, option, REPLY_ACK, &[])?;
                if option == OPTION_GO {
                    return Ok(true);
                }
            }
            OPTION_ABORT => {
                answer(stream, option, REPLY_ACK, &[])?;
                return Ok(false);
            }
            _ => answer(stream, option, REPLY_UNSUPPORTED, &[])?,
        }
    }
}

fn answer(stream: &mut UnixStream, option: u32, reply: u32, data: &[u8]) -> io::Result<()> {
    let len = u32::try_from(data.len()).map_err(io::Error::other)?;
    let mut bytes = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
    for word in [option, reply, len] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend(data);
    stream.write_all(&bytes)
}

struct Request {
    flags: u16,
    kind: u16,
    handle: [u8; 8],
    offset: u64,
    len: u32,
    data: Vec<u8>,
}

impl Request {
    /// Reads the next one; `None` when the client leaves.
    fn read(stream: &mut UnixStream) -> io::Result<Option<Self>> {
        if u32::from_be_bytes(read(stream)?) != REQUEST_MAGIC {
            return Err(broken("a request without its magic"));
        }
        let mut request = Self {
            flags: u16::from_be_bytes(read(stream)?),
            kind: u16::from_be_bytes(read(stream)?),
            handle: read(stream)?,
            offset: u64::from_be_bytes(read(stream)?),
            len: u32::from_be_bytes(read(stream)?),
            data: Vec::new(),
        };
        if request.kind == DISCONNECT {
            return Ok(None);
        }
        if matches!(request.kind, READ | WRITE) && request.len > BYTES_MAX {
            return Err(broken("a request too long"));
        }
        if request.kind == WRITE {
            request.data = vec![0; request.len as usize];
            stream.read_exact(&mut request.data)?;
        }
        Ok(Some(request))
    }

    fn changes(&self) -> bool {
        self.kind != READ
    }

    /// Does as much of the request as may survive a cut in the middle of it: nothing of it is durable.
    fn reach_the_cache(&self, disk: &mut VolatileDisk) {
        let within = self.offset.checked_add(u64::from(self.len));
        if within.is_none_or(|end| end > disk.len()) {
            return;
        }
        match self.kind {
            WRITE => disk.write(&self.data, self.offset),
            TRIM | WRITE_ZEROES => disk.zero(self.offset, u64::from(self.len)),
            _ => {}
        }
    }

    /// Carries the request out in the cache; returns NBD's error number, 0 when it went well.
    fn carry_out(&self, disk: &mut VolatileDisk, reply: &mut Vec<u8>) -> u32 {
        let len = u64::from(self.len);
        let end = self.offset.checked_add(len);
        if end.is_none_or(|end| end > disk.len()) {
            return INVALID;
        }
        match self.kind {
            READ => {
                reply.resize(self.len as usize, 0);
                disk.read(reply, self.offset);
            }
            WRITE => disk.write(&self.data, self.offset),
            FLUSH => disk.flush(),
            TRIM | WRITE_ZEROES => disk.zero(self.offset, len),
            _ => return INVALID,
        }
        if self.flags & FLAG_FUA != 0 {
            disk.force(self.offset, len);
        }
        0
    }
}

fn read<const N: usize>(stream: &mut UnixStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests;
