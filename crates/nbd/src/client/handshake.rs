//! PURE. How a client opens an export.

use bytes::Bytes;

use super::{ClientError, Heard};
use crate::{
    fields::{Fields, gather},
    wire::{
        GREETING_MAGIC, OPTION_BYTES_MAX, OPTION_MAGIC, OPTION_REPLY_MAGIC, answer, handshake, info, option,
        transmission,
    },
};

const GREETING_BYTES: usize = 18;
const ANSWER_BYTES: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Greeting,
    /// Waiting for the answer to this option.
    Answer(u32),
    /// Waiting for an answer's data.
    Data {
        option: u32,
        kind: u32,
        bytes: u32,
    },
}

/// The negotiation: structured replies if the server has them, then the export.
#[derive(Debug)]
pub(super) struct Handshake {
    name: String,
    step: Step,
    structured: bool,
    size_and_flags: Option<(u64, u16)>,
    minimum_block: u32,
}

impl Handshake {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            step: Step::Greeting,
            structured: false,
            size_and_flags: None,
            minimum_block: 1,
        }
    }

    pub(super) fn structured(&self) -> bool {
        self.structured
    }

    pub(super) fn receive(
        &mut self,
        held: &mut Vec<u8>,
        input: &mut &[u8],
    ) -> Result<Option<Heard>, ClientError> {
        loop {
            let bytes = match self.step {
                Step::Greeting => GREETING_BYTES,
                Step::Answer(_) => ANSWER_BYTES,
                Step::Data { bytes, .. } => bytes as usize,
            };
            if !gather(held, input, bytes) {
                return Ok(None);
            }
            let message = std::mem::take(held);
            let heard = match self.step {
                Step::Greeting => Some(self.greeting(&message)?),
                Step::Answer(option) => {
                    self.step = head(option, &message)?;
                    None
                }
                Step::Data { option, kind, .. } => self.answered(option, kind, &message)?,
            };
            if heard.is_some() {
                return Ok(heard);
            }
        }
    }

    fn greeting(&mut self, greeting: &[u8]) -> Result<Heard, ClientError> {
        let mut fields = Fields::new(greeting);
        let magics = (fields.u64(), fields.u64());
        let flags = fields.u16().unwrap_or_default();
        let known = magics == (Some(GREETING_MAGIC), Some(OPTION_MAGIC));
        if !known || flags & handshake::FIXED_NEWSTYLE == 0 {
            return Err(ClientError::Greeting);
        }
        let mut bytes = u32::from(flags & handshake::ALL).to_be_bytes().to_vec();
        bytes.extend(self.ask(option::STRUCTURED_REPLY, &[])?);
        Ok(Heard::Send(bytes.into()))
    }

    fn ask(&mut self, option: u32, data: &[u8]) -> Result<Bytes, ClientError> {
        let len = u32::try_from(data.len()).map_err(|_| ClientError::Negotiation)?;
        let mut bytes = OPTION_MAGIC.to_be_bytes().to_vec();
        bytes.extend(option.to_be_bytes());
        bytes.extend(len.to_be_bytes());
        bytes.extend(data);
        self.step = Step::Answer(option);
        Ok(bytes.into())
    }

    fn answered(&mut self, option: u32, kind: u32, data: &[u8]) -> Result<Option<Heard>, ClientError> {
        self.step = Step::Answer(option);
        if option == option::STRUCTURED_REPLY {
            // A server that does not know them says so, and serves all the same.
            self.structured = kind == answer::ACK;
            return Ok(Some(Heard::Send(self.go()?)));
        }
        match kind {
            answer::INFO => {
                self.info(data)?;
                Ok(None)
            }
            answer::ACK => {
                let (bytes, flags) = self.size_and_flags.ok_or(ClientError::Negotiation)?;
                Ok(Some(Heard::Opened {
                    bytes,
                    read_only: flags & transmission::READ_ONLY != 0,
                    minimum_block: self.minimum_block,
                }))
            }
            kind => Err(ClientError::Refused(kind)),
        }
    }

    fn go(&mut self) -> Result<Bytes, ClientError> {
        let len = u32::try_from(self.name.len()).map_err(|_| ClientError::Negotiation)?;
        let mut data = len.to_be_bytes().to_vec();
        data.extend(self.name.as_bytes());
        data.extend(1u16.to_be_bytes());
        data.extend(info::BLOCK_SIZE.to_be_bytes());
        self.ask(option::GO, &data)
    }

    fn info(&mut self, data: &[u8]) -> Result<(), ClientError> {
        let mut fields = Fields::new(data);
        let told = match fields.u16() {
            Some(info::EXPORT) => fields.u64().zip(fields.u16()).map(|told| {
                self.size_and_flags = Some(told);
            }),
            Some(info::BLOCK_SIZE) => fields
                .u32()
                .filter(|minimum| minimum.is_power_of_two())
                .map(|minimum| self.minimum_block = minimum),
            other => other.map(|_| ()),
        };
        told.ok_or(ClientError::Negotiation)
    }
}

/// Reads the head of an answer to `option`.
fn head(option: u32, bytes: &[u8]) -> Result<Step, ClientError> {
    let mut fields = Fields::new(bytes);
    let magic = fields.u64();
    let (Some(to), Some(kind), Some(bytes)) = (fields.u32(), fields.u32(), fields.u32()) else {
        return Err(ClientError::Negotiation);
    };
    if magic != Some(OPTION_REPLY_MAGIC) || to != option || bytes > OPTION_BYTES_MAX {
        return Err(ClientError::Negotiation);
    }
    Ok(Step::Data { option, kind, bytes })
}
