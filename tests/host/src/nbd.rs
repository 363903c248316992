//! Serves a disk with a switch for its power to one NBD client.

use std::{
    io,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{Arc, Mutex},
};

use nbd::{BlockSizes, Connection, Errno, Export, Extent, Head, Request, Span, Ticket};

use crate::{machine::lock, volatile_disk::VolatileDisk};

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

fn converse(stream: UnixStream, disk: &Mutex<VolatileDisk>, power: &mut impl Power) -> io::Result<()> {
    let exports = [Export {
        blocks: BlockSizes::new(512, 4096).map_err(io::Error::other)?,
        ..Export::new("", lock(disk).len())
    }];
    let mut connection = Connection::greet(stream)?;
    while let Some((request, payload)) = connection.next(&exports)? {
        let change = match request {
            Request::Read(read) => {
                let span = read.span();
                let mut data = vec![0; span.bytes as usize];
                lock(disk).read(&mut data, span.offset);
                connection.send(&read.whole())?;
                connection.send(&data)?;
                continue;
            }
            Request::Status(status) => {
                let data = Extent {
                    bytes: status.span().bytes.into(),
                    hole: false,
                    zero: false,
                };
                connection.send(&status.answer([data]))?;
                continue;
            }
            Request::Write { span, fua, ticket } => Change::new(Some(span), payload, fua, ticket),
            Request::Zero {
                span, fua, ticket, ..
            }
            | Request::Trim { span, fua, ticket } => Change::new(Some(span), Vec::new(), fua, ticket),
            Request::Flush(ticket) => Change::new(None, Vec::new(), false, ticket),
            Request::Cache { ticket, .. } => {
                connection.send(&ticket.fail(Errno::Inval))?;
                continue;
            }
        };
        if power.fails() {
            change.reach_the_cache(&mut lock(disk));
            power.failed();
            // The connection stays, silent: an error would tell the guest, which a power cut does not.
            return wait_for_the_end(connection.into_stream());
        }
        let answer = change.carry_out(&mut lock(disk));
        connection.send(&answer)?;
    }
    Ok(())
}

fn wait_for_the_end(mut stream: UnixStream) -> io::Result<()> {
    io::copy(&mut stream, &mut io::sink()).map(|_| ())
}

/// A request that a power cut may hit: a write, zeros where there is no data, a flush where there is no place.
struct Change {
    span: Option<Span>,
    data: Vec<u8>,
    fua: bool,
    ticket: Ticket,
}

impl Change {
    fn new(span: Option<Span>, data: Vec<u8>, fua: bool, ticket: Ticket) -> Self {
        Self {
            span,
            data,
            fua,
            ticket,
        }
    }

    /// Does as much of it as may survive a cut in the middle of it: nothing of it is durable.
    fn reach_the_cache(&self, disk: &mut VolatileDisk) {
        let Some(span) = self.span else { return };
        if self.data.is_empty() {
            disk.zero(span.offset, span.bytes.into());
        } else {
            disk.write(&self.data, span.offset);
        }
    }

    /// Does it in the cache, and beyond if that was asked for; returns the answer.
    fn carry_out(self, disk: &mut VolatileDisk) -> Head {
        self.reach_the_cache(disk);
        match self.span {
            None => disk.flush(),
            Some(span) if self.fua => disk.force(span.offset, span.bytes.into()),
            Some(_) => {}
        }
        self.ticket.done()
    }
}

#[cfg(test)]
mod tests;
