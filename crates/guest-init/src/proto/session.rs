//! One end of a port (PURE): received bytes in, [`Incoming`]s and bytes to send out.
//!
//! The driver reads the port into [`Session::receive`], hands [`Session::outgoing`] to the port, and passes
//! what its consumers took to [`Session::consumed`]. Memory is bounded: what peers send takes credit or is
//! limited by [`MESSAGE_BYTES_MAX`]; what is to be sent takes credit or is a message.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::flow::{FlowError, ReceiveWindow, SendWindow};
use super::frame::{
    Channel, Decoder, Frame, FrameError, FrameKind, Item, PAYLOAD_BYTES_MAX, SYNC, StreamId, encode,
    encode_data,
};
use super::message::{Event, Hello, HostHello, NumberedEvent, Phase, Reply, Request};
use super::{VERSION_MAX, VERSION_MIN};

/// Longest JSON message, in bytes; also the limit of all messages that are half received.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Longest text of a [`Incoming::Panic`], in bytes.
const PANIC_BYTES_MAX: usize = 4096;

/// Something the peer said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// Guest: the host opened a session; everything of the former one is void. The driver answers with
    /// [`Session::accept`].
    HostHello(HostHello),
    /// Host: the guest accepted the session.
    Hello(Hello),
    /// Guest: a request.
    Request {
        /// Number for the replies and streams.
        call: u32,
        /// What is asked for.
        request: Request,
    },
    /// Host: an answer.
    Reply {
        /// Number of the request.
        call: u32,
        /// The answer.
        reply: Reply,
    },
    /// Host: something happened in the guest. The driver answers with [`Session::ack`] once it is stored.
    Event(NumberedEvent),
    /// Guest: events up to this number are stored by the host.
    Ack(u64),
    /// Bytes of an open stream. The driver answers with [`Session::consumed`] once they are taken.
    Data {
        /// The stream.
        stream: StreamId,
        /// The bytes, never empty.
        bytes: Bytes,
    },
    /// An open stream has no more bytes.
    End(StreamId),
    /// A stream has credit again, after [`Session::send`] took less than it was given.
    Writable(StreamId),
    /// Guest: the host gave up this call.
    Cancel(u32),
    /// Host: PID 1 is about to die of a bug.
    Panic(String),
}

/// Why a session broke. The host opens a new one; the guest waits for that.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The bytes are no frames.
    #[error("read a frame")]
    Frame(#[from] FrameError),
    /// The peer broke the rules of credit.
    #[error("stream {stream:?}")]
    Flow {
        /// The stream.
        stream: StreamId,
        /// What it did.
        #[source]
        source: FlowError,
    },
    /// A body is no message of its kind.
    #[error("read a {kind:?} body")]
    Body {
        /// The frame's kind.
        kind: FrameKind,
        /// Where the text went wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A number has the wrong length.
    #[error("{kind:?} body of {bytes} bytes")]
    Number {
        /// The frame's kind.
        kind: FrameKind,
        /// The body's length.
        bytes: usize,
    },
    /// A message is beyond [`MESSAGE_BYTES_MAX`].
    #[error("message longer than {MESSAGE_BYTES_MAX} bytes")]
    TooLong,
    /// A frame this side does not take, or not now.
    #[error("{kind:?} frame out of place")]
    OutOfPlace {
        /// The frame's kind.
        kind: FrameKind,
    },
    /// Guest and host have no version in common.
    #[error("guest speaks versions {guest_min} to {guest_max}, host {VERSION_MIN} to {VERSION_MAX}")]
    Version {
        /// Oldest of the guest.
        guest_min: u16,
        /// Newest of the guest.
        guest_max: u16,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Host,
    Guest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No session; everything but a hello is dropped.
    Closed,
    /// A sync mark came; the next frame is a hello.
    Greeting,
    /// Guest: hello received, not yet answered.
    Greeted,
    /// Both hellos are exchanged.
    Open,
}

/// One end of a port. See the module's text.
#[derive(Debug)]
pub struct Session {
    side: Side,
    state: State,
    session_id: String,
    decoder: Decoder,
    outgoing: BytesMut,
    sending: BTreeMap<StreamId, Sending>,
    receiving: BTreeMap<StreamId, ReceiveWindow>,
    parts: BTreeMap<StreamId, BytesMut>,
    parts_bytes: usize,
    ready: VecDeque<Incoming>,
    last_call: u32,
}

#[derive(Debug, Default)]
struct Sending {
    window: SendWindow,
    starved: bool,
}

impl Session {
    /// Returns the host's end. [`open`](Self::open) starts it.
    pub fn host() -> Self {
        Self::new(Side::Host)
    }

    /// Returns the guest's end, which waits for the host.
    pub fn guest() -> Self {
        Self::new(Side::Guest)
    }

    fn new(side: Side) -> Self {
        Self {
            side,
            state: State::Closed,
            session_id: String::new(),
            decoder: Decoder::new(),
            outgoing: BytesMut::new(),
            sending: BTreeMap::new(),
            receiving: BTreeMap::new(),
            parts: BTreeMap::new(),
            parts_bytes: 0,
            ready: VecDeque::new(),
            last_call: 0,
        }
    }

    /// Returns whether both hellos are exchanged.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Host: begins a session, whatever there was before.
    ///
    /// * `session_id`: random, never used before.
    /// * `events_after`: number of the last event that is stored already.
    pub fn open(&mut self, session_id: &str, events_after: u64) {
        assert!(self.side == Side::Host, "only the host opens sessions");
        self.close();
        self.decoder.lose_step();
        session_id.clone_into(&mut self.session_id);
        let hello = HostHello {
            session_id: session_id.to_owned(),
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            events_after,
        };
        self.outgoing.extend_from_slice(&SYNC);
        self.put_json(FrameKind::HostHello, StreamId::NONE, &hello);
    }

    /// Guest: answers the host's hello. The session is open afterwards if the versions meet, as the returned
    /// value says.
    pub fn accept(&mut self, host: &HostHello, boot_id: &str, phase: Phase) -> bool {
        assert!(self.side == Side::Guest, "only the guest accepts sessions");
        assert!(
            self.state == State::Greeted,
            "no hello to answer: {:?}",
            self.state
        );
        let version = negotiate((VERSION_MIN, VERSION_MAX), (host.version_min, host.version_max));
        let hello = Hello {
            session_id: host.session_id.clone(),
            version,
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            boot_id: boot_id.to_owned(),
            phase,
        };
        self.outgoing.extend_from_slice(&SYNC);
        self.put_json(FrameKind::Hello, StreamId::NONE, &hello);
        self.state = if version.is_some() {
            State::Open
        } else {
            State::Closed
        };
        version.is_some()
    }

    /// Forgets the session and everything unsent; the next sync mark starts a new one.
    pub fn close(&mut self) {
        self.state = State::Closed;
        self.outgoing.clear();
        self.sending.clear();
        self.receiving.clear();
        self.parts.clear();
        self.parts_bytes = 0;
        self.ready.clear();
        self.last_call = 0;
    }

    /// Takes in received bytes; [`next`](Self::next) tells what they say.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.decoder.push(bytes);
    }

    /// Returns what the peer said next, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`SessionError`] when the session is broken. The session is closed then; the host opens a new one.
    #[expect(
        clippy::should_implement_trait,
        reason = "fallible, and receiving goes on in between"
    )]
    pub fn next(&mut self) -> Result<Option<Incoming>, SessionError> {
        loop {
            if let Some(incoming) = self.ready.pop_front() {
                return Ok(Some(incoming));
            }
            let step = match self.decoder.next_item() {
                Ok(None) => return Ok(None),
                Ok(Some(Item::Sync)) => {
                    // Ours to send is only the host's own hello: the guest's answer comes next.
                    self.begin_greeting();
                    Ok(())
                }
                Ok(Some(Item::Frame(frame))) => self.take(frame),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = step {
                self.close();
                self.decoder.lose_step();
                return Err(error);
            }
        }
    }

    fn begin_greeting(&mut self) {
        match self.side {
            // The unsent part may be the hello that this sync answers to: keep it.
            Side::Host => self.state = State::Greeting,
            Side::Guest => {
                self.close();
                self.state = State::Greeting;
            }
        }
    }

    fn take(&mut self, frame: Frame) -> Result<(), SessionError> {
        let kind = frame.kind;
        match (self.state, self.side, kind) {
            (_, _, FrameKind::Empty) => Ok(()),
            (State::Greeting, Side::Guest, FrameKind::HostHello) => {
                let hello: HostHello = body(kind, &frame.payload)?;
                hello.session_id.clone_into(&mut self.session_id);
                self.state = State::Greeted;
                self.ready.push_back(Incoming::HostHello(hello));
                Ok(())
            }
            (State::Greeting, Side::Host, FrameKind::Hello) => self.take_hello(body(kind, &frame.payload)?),
            (State::Greeting, Side::Host, FrameKind::Panic) => {
                let text = &frame.payload[..frame.payload.len().min(PANIC_BYTES_MAX)];
                self.ready
                    .push_back(Incoming::Panic(String::from_utf8_lossy(text).into_owned()));
                self.state = State::Closed;
                Ok(())
            }
            // The rest of an earlier session, or a hello that was never answered.
            (State::Closed | State::Greeted, _, _) => Ok(()),
            (State::Open, _, _) => self.take_open(frame),
            (State::Greeting, _, _) => Err(SessionError::OutOfPlace { kind }),
        }
    }

    fn take_hello(&mut self, hello: Hello) -> Result<(), SessionError> {
        if hello.session_id != self.session_id {
            // The answer to an earlier hello of ours: ours is still to come.
            self.state = State::Closed;
            return Ok(());
        }
        if hello.version.is_none() {
            return Err(SessionError::Version {
                guest_min: hello.version_min,
                guest_max: hello.version_max,
            });
        }
        self.state = State::Open;
        self.ready.push_back(Incoming::Hello(hello));
        Ok(())
    }

    fn take_open(&mut self, frame: Frame) -> Result<(), SessionError> {
        let Frame {
            kind,
            stream,
            payload,
        } = frame;
        match (self.side, kind) {
            (_, FrameKind::Part) => self.take_part(stream, &payload),
            (_, FrameKind::Data) => self.take_data(stream, payload),
            (_, FrameKind::End) => {
                if self.receiving.contains_key(&stream) {
                    self.ready.push_back(Incoming::End(stream));
                }
                Ok(())
            }
            (_, FrameKind::Credit) => self.take_credit(stream, number::<4>(kind, &payload)?),
            (Side::Guest, FrameKind::Request) => {
                let request = self.whole(kind, stream, &payload)?;
                self.ready.push_back(Incoming::Request {
                    call: stream.call(),
                    request,
                });
                Ok(())
            }
            (Side::Guest, FrameKind::Ack) => {
                let seq = u64::from_le_bytes(number::<8>(kind, &payload)?);
                self.ready.push_back(Incoming::Ack(seq));
                Ok(())
            }
            (Side::Guest, FrameKind::Cancel) => {
                self.ready.push_back(Incoming::Cancel(stream.call()));
                Ok(())
            }
            (Side::Host, FrameKind::Reply) => {
                let reply = self.whole(kind, stream, &payload)?;
                self.ready.push_back(Incoming::Reply {
                    call: stream.call(),
                    reply,
                });
                Ok(())
            }
            (Side::Host, FrameKind::Event) => {
                let event = self.whole(kind, stream, &payload)?;
                self.ready.push_back(Incoming::Event(event));
                Ok(())
            }
            (_, _) => Err(SessionError::OutOfPlace { kind }),
        }
    }

    fn take_part(&mut self, stream: StreamId, payload: &[u8]) -> Result<(), SessionError> {
        self.parts_bytes += payload.len();
        if self.parts_bytes > MESSAGE_BYTES_MAX {
            return Err(SessionError::TooLong);
        }
        self.parts.entry(stream).or_default().extend_from_slice(payload);
        Ok(())
    }

    fn whole<T: DeserializeOwned>(
        &mut self,
        kind: FrameKind,
        stream: StreamId,
        last: &[u8],
    ) -> Result<T, SessionError> {
        let Some(mut text) = self.parts.remove(&stream) else {
            return body(kind, last);
        };
        self.parts_bytes -= text.len();
        text.extend_from_slice(last);
        body(kind, &text)
    }

    fn take_data(&mut self, stream: StreamId, bytes: Bytes) -> Result<(), SessionError> {
        // Data of a stream that we closed may have been under way.
        let Some(window) = self.receiving.get_mut(&stream) else {
            return Ok(());
        };
        window
            .received(bytes.len())
            .map_err(|source| SessionError::Flow { stream, source })?;
        if !bytes.is_empty() {
            self.ready.push_back(Incoming::Data { stream, bytes });
        }
        Ok(())
    }

    fn take_credit(&mut self, stream: StreamId, credit: [u8; 4]) -> Result<(), SessionError> {
        let Some(sending) = self.sending.get_mut(&stream) else {
            return Ok(());
        };
        let granted = sending.window.granted(u32::from_le_bytes(credit));
        granted.map_err(|source| SessionError::Flow { stream, source })?;
        if sending.starved {
            sending.starved = false;
            self.ready.push_back(Incoming::Writable(stream));
        }
        Ok(())
    }

    /// Opens a stream for sending, with a full window.
    pub fn open_sending(&mut self, stream: StreamId) {
        self.sending.insert(stream, Sending::default());
    }

    /// Opens a stream for receiving, with a full window.
    pub fn open_receiving(&mut self, stream: StreamId) {
        self.receiving.insert(stream, ReceiveWindow::default());
    }

    /// Queues bytes of a stream and returns how many had credit. When that is not all,
    /// [`Incoming::Writable`] follows. Takes nothing on a stream that is not open.
    pub fn send(&mut self, stream: StreamId, bytes: &[u8]) -> usize {
        if self.state != State::Open {
            return 0;
        }
        let Some(sending) = self.sending.get_mut(&stream) else {
            return 0;
        };
        let count = sending.window.spend(bytes.len());
        sending.starved = count < bytes.len();
        encode_data(stream, &bytes[..count], &mut self.outgoing);
        count
    }

    /// Says that a stream has no more bytes, and forgets it.
    pub fn send_end(&mut self, stream: StreamId) {
        if self.sending.remove(&stream).is_some() && self.state == State::Open {
            encode(FrameKind::End, stream, &[], &mut self.outgoing);
        }
    }

    /// Notes that the consumer of a stream took `bytes` bytes.
    pub fn consumed(&mut self, stream: StreamId, bytes: usize) {
        let Some(window) = self.receiving.get_mut(&stream) else {
            return;
        };
        if let Some(grant) = window.consumed(bytes) {
            encode(
                FrameKind::Credit,
                stream,
                &grant.to_le_bytes(),
                &mut self.outgoing,
            );
        }
    }

    /// Forgets all streams of a call: what still comes for them is dropped.
    pub fn forget(&mut self, call: u32) {
        self.sending.retain(|stream, _| stream.call() != call);
        self.receiving.retain(|stream, _| stream.call() != call);
    }

    /// Host: queues a request and returns its call's number. Streams of an exec are opened with it.
    ///
    /// # Errors
    /// [`SessionError::TooLong`] when it is beyond [`MESSAGE_BYTES_MAX`]; the session goes on.
    pub fn request(&mut self, request: &Request) -> Result<u32, SessionError> {
        let text = text_of(request);
        if text.len() > MESSAGE_BYTES_MAX {
            return Err(SessionError::TooLong);
        }
        self.last_call = self.last_call % StreamId::CALL_MAX + 1;
        let call = self.last_call;
        if let Request::Exec(exec) = request {
            if exec.stdin {
                self.open_sending(StreamId::new(call, Channel::Stdin));
            }
            self.open_receiving(StreamId::new(call, Channel::Stdout));
            self.open_receiving(StreamId::new(call, Channel::Stderr));
        }
        self.put_text(FrameKind::Request, StreamId::new(call, Channel::Control), &text);
        Ok(call)
    }

    /// Host: gives up a call and forgets its streams.
    pub fn cancel(&mut self, call: u32) {
        self.forget(call);
        encode(
            FrameKind::Cancel,
            StreamId::new(call, Channel::Control),
            &[],
            &mut self.outgoing,
        );
    }

    /// Host: tells the guest that events up to `seq` are stored.
    pub fn ack(&mut self, seq: u64) {
        encode(
            FrameKind::Ack,
            StreamId::NONE,
            &seq.to_le_bytes(),
            &mut self.outgoing,
        );
    }

    /// Guest: queues an answer.
    pub fn reply(&mut self, call: u32, reply: &Reply) {
        if self.state == State::Open {
            self.put_json(FrameKind::Reply, StreamId::new(call, Channel::Control), reply);
        }
    }

    /// Guest: queues an event.
    pub fn event(&mut self, seq: u64, event: &Event) {
        if self.state == State::Open {
            self.put_json(
                FrameKind::Event,
                StreamId::NONE,
                &NumberedEvent {
                    seq,
                    event: event.clone(),
                },
            );
        }
    }

    /// Returns what is to be sent; the driver removes what it sent with [`sent`](Self::sent).
    pub fn outgoing(&self) -> &[u8] {
        &self.outgoing
    }

    /// Removes the first `bytes` bytes of [`outgoing`](Self::outgoing).
    pub fn sent(&mut self, bytes: usize) {
        self.outgoing.advance(bytes);
    }

    fn put_json<T: Serialize>(&mut self, kind: FrameKind, stream: StreamId, message: &T) {
        let text = text_of(message);
        self.put_text(kind, stream, &text);
    }

    fn put_text(&mut self, kind: FrameKind, stream: StreamId, mut text: &[u8]) {
        while text.len() > PAYLOAD_BYTES_MAX {
            let (part, rest) = text.split_at(PAYLOAD_BYTES_MAX);
            encode(FrameKind::Part, stream, part, &mut self.outgoing);
            text = rest;
        }
        encode(kind, stream, text, &mut self.outgoing);
    }
}

/// Returns what a dying PID 1 sends: it may cut into anything, needs no session, and reaches the host as
/// [`Incoming::Panic`].
pub fn panic_report(message: &str) -> Bytes {
    let mut end = message.len().min(PANIC_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let mut out = BytesMut::from(&SYNC[..]);
    encode(
        FrameKind::Panic,
        StreamId::NONE,
        &message.as_bytes()[..end],
        &mut out,
    );
    out.freeze()
}

/// Returns the newest version in both ranges.
fn negotiate(ours: (u16, u16), theirs: (u16, u16)) -> Option<u16> {
    let newest = ours.1.min(theirs.1);
    (newest >= ours.0.max(theirs.0)).then_some(newest)
}

fn text_of<T: Serialize>(message: &T) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "messages have text keys and no failing Serialize"
    )]
    serde_json::to_vec(message).expect("protocol messages serialize")
}

fn body<T: DeserializeOwned>(kind: FrameKind, text: &[u8]) -> Result<T, SessionError> {
    serde_json::from_slice(text).map_err(|source| SessionError::Body { kind, source })
}

fn number<const N: usize>(kind: FrameKind, payload: &[u8]) -> Result<[u8; N], SessionError> {
    payload.try_into().map_err(|_| SessionError::Number {
        kind,
        bytes: payload.len(),
    })
}

#[cfg(test)]
mod tests;
