//! PURE. Options and their answers, until an export is opened.

use bytes::Bytes;

use super::{Closed, Violation};
use crate::{
    Export,
    fields::Fields,
    wire::{
        ALLOCATION, ALLOCATION_ID, NAME_BYTES_MAX, OPTION_REPLY_MAGIC, PAYLOAD_BYTES_MAX, answer, handshake,
        info, option,
    },
};

/// What both sides have agreed about.
#[derive(Debug, Default)]
pub(super) struct Agreed {
    /// Whether the client understands answers to options.
    pub(super) fixed: bool,
    /// Whether zeros after the answer to `EXPORT_NAME` are left out.
    pub(super) no_zeroes: bool,
    /// Whether replies are structured.
    pub(super) structured: bool,
    /// The export for which the client has chosen `base:allocation`.
    pub(super) allocation_of: Option<String>,
}

/// What follows an option.
pub(super) enum Next {
    Option,
    Open(Export),
    Close(Closed),
}

/// An option that is answered by an error, and the words with it.
struct Refused(u32, &'static str);

const MALFORMED: Refused = Refused(answer::INVALID, "the option's data is malformed");
const UNKNOWN: Refused = Refused(answer::UNKNOWN, "no export of that name is served");

impl Agreed {
    /// Tells whether an option may come from this client at all.
    pub(super) fn allows(&self, option: u32) -> bool {
        self.fixed || option == option::EXPORT_NAME
    }

    /// Answers an option: the bytes to send, which are none when hanging up is the answer, and what follows.
    pub(super) fn answer(&mut self, option: u32, data: &[u8], exports: &[Export]) -> (Vec<u8>, Next) {
        if option == option::EXPORT_NAME {
            return self.export_name(data, exports);
        }
        let mut reply = Reply::to(option);
        let answered = match option {
            option::ABORT => {
                reply.put(answer::ACK, &[]);
                return (reply.bytes, Next::Close(Closed::Aborted));
            }
            option::LIST => list(&mut reply, data, exports),
            option::INFO | option::GO => self.info(&mut reply, data, exports),
            option::STRUCTURED_REPLY => empty(data).map(|()| {
                self.structured = true;
                None
            }),
            option::LIST_META_CONTEXT => self.contexts(data, exports).map(|(_, listed)| {
                if listed.named || listed.wildcard {
                    reply.context(0);
                }
                None
            }),
            option::SET_META_CONTEXT => {
                self.allocation_of = None;
                self.contexts(data, exports).map(|(export, asked)| {
                    if asked.named {
                        reply.context(ALLOCATION_ID);
                        self.allocation_of = Some(export.name.clone());
                    }
                    None
                })
            }
            option::STARTTLS => empty(data).and(Err(Refused(answer::UNSUPPORTED, "TLS is not spoken here"))),
            _ => Err(Refused(answer::UNSUPPORTED, "the option is not known")),
        };
        let opened = match answered {
            Ok(opened) => {
                reply.put(answer::ACK, &[]);
                opened
            }
            Err(Refused(kind, words)) => {
                reply.put(kind, words.as_bytes());
                None
            }
        };
        match opened {
            Some(export) if option == option::GO => (reply.bytes, self.open(export)),
            _ => (reply.bytes, Next::Option),
        }
    }

    fn open(&mut self, export: Export) -> Next {
        if self.allocation_of.as_ref() != Some(&export.name) {
            self.allocation_of = None;
        }
        Next::Open(export)
    }

    fn export_name(&mut self, data: &[u8], exports: &[Export]) -> (Vec<u8>, Next) {
        let export = name(data).ok().and_then(|name| Export::find(exports, name));
        let Some(export) = export else {
            let closed = Closed::Violation(Violation::UnknownExport);
            return (Vec::new(), Next::Close(closed));
        };
        let mut reply = export.bytes.to_be_bytes().to_vec();
        reply.extend(export.flags(self.structured).to_be_bytes());
        if !self.no_zeroes {
            reply.extend([0; handshake::ZEROES]);
        }
        (reply, self.open(export.clone()))
    }

    fn info(&self, reply: &mut Reply, data: &[u8], exports: &[Export]) -> Result<Option<Export>, Refused> {
        let (name, wanted) = info_request(data)?;
        let export = Export::find(exports, name).ok_or(UNKNOWN)?;
        let flags = export.flags(self.structured).to_be_bytes();
        reply.info(info::EXPORT, &[&export.bytes.to_be_bytes(), &flags]);
        if wanted.contains(&info::NAME) {
            reply.info(info::NAME, &[export.name.as_bytes()]);
        }
        if wanted.contains(&info::DESCRIPTION) && !export.description.is_empty() {
            reply.info(info::DESCRIPTION, &[export.description.as_bytes()]);
        }
        let sizes = [
            export.blocks.minimum(),
            export.blocks.preferred(),
            PAYLOAD_BYTES_MAX,
        ];
        let sizes = sizes.map(u32::to_be_bytes);
        reply.info(info::BLOCK_SIZE, &[sizes.as_flattened()]);
        Ok(Some(export.clone()))
    }

    /// Reads a question for metadata contexts.
    fn contexts<'a>(&self, data: &[u8], exports: &'a [Export]) -> Result<(&'a Export, Asked), Refused> {
        if !self.structured {
            return Err(Refused(answer::INVALID, "structured replies come first"));
        }
        let mut fields = Fields::new(data);
        let name = name(fields.counted().ok_or(MALFORMED)?)?;
        let count = fields.u32().ok_or(MALFORMED)?;
        let mut asked = Asked {
            named: false,
            wildcard: count == 0,
        };
        for _ in 0..count {
            let query = text(fields.counted().ok_or(MALFORMED)?)?;
            if !query.contains(':') {
                return Err(Refused(answer::INVALID, "a query has no namespace"));
            }
            asked.named |= query == ALLOCATION;
            asked.wildcard |= query == "base:";
        }
        if !fields.is_empty() {
            return Err(MALFORMED);
        }
        let export = Export::find(exports, name).ok_or(UNKNOWN)?;
        Ok((export, asked))
    }
}

/// How a client asked for `base:allocation`.
struct Asked {
    named: bool,
    wildcard: bool,
}

/// Returns the answer to an option whose data was not looked at.
pub(super) fn refusal(option: u32, kind: u32) -> Bytes {
    let mut reply = Reply::to(option);
    reply.put(kind, b"the option's data is too long");
    reply.bytes.into()
}

fn list(reply: &mut Reply, data: &[u8], exports: &[Export]) -> Result<Option<Export>, Refused> {
    empty(data)?;
    for export in exports {
        let len = u32::try_from(export.name.len()).map_err(|_| MALFORMED)?;
        let parts = [
            &len.to_be_bytes(),
            export.name.as_bytes(),
            export.description.as_bytes(),
        ];
        reply.put(answer::SERVER, &parts.concat());
    }
    Ok(None)
}

fn empty(data: &[u8]) -> Result<(), Refused> {
    if data.is_empty() { Ok(()) } else { Err(MALFORMED) }
}

/// Reads the data of `INFO` and `GO`: an export's name and the kinds of information that are asked for.
fn info_request(data: &[u8]) -> Result<(&str, Vec<u16>), Refused> {
    let mut fields = Fields::new(data);
    let name = name(fields.counted().ok_or(MALFORMED)?)?;
    let count = fields.u16().ok_or(MALFORMED)?;
    let wanted: Option<Vec<u16>> = (0..count).map(|_| fields.u16()).collect();
    let wanted = wanted.filter(|_| fields.is_empty()).ok_or(MALFORMED)?;
    Ok((name, wanted))
}

fn name(bytes: &[u8]) -> Result<&str, Refused> {
    if bytes.len() > NAME_BYTES_MAX {
        return Err(Refused(answer::INVALID, "a name is longer than 4096 bytes"));
    }
    text(bytes)
}

fn text(bytes: &[u8]) -> Result<&str, Refused> {
    std::str::from_utf8(bytes).map_err(|_| MALFORMED)
}

/// Answers to one option.
struct Reply {
    option: u32,
    bytes: Vec<u8>,
}

impl Reply {
    fn to(option: u32) -> Self {
        Self {
            option,
            bytes: Vec::new(),
        }
    }

    fn put(&mut self, kind: u32, data: &[u8]) {
        // What we send is made of our own exports and words.
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        self.bytes.extend(OPTION_REPLY_MAGIC.to_be_bytes());
        for word in [self.option, kind, len] {
            self.bytes.extend(word.to_be_bytes());
        }
        self.bytes.extend(data);
    }

    fn info(&mut self, kind: u16, parts: &[&[u8]]) {
        let mut data = kind.to_be_bytes().to_vec();
        data.extend(parts.concat());
        self.put(answer::INFO, &data);
    }

    fn context(&mut self, id: u32) {
        let mut data = id.to_be_bytes().to_vec();
        data.extend(ALLOCATION.as_bytes());
        self.put(answer::META_CONTEXT, &data);
    }
}
