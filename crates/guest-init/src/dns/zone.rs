//! What the guest's name server says. No sockets here.

use std::cell::RefCell;
use std::collections::BTreeMap;

use hickory_proto::op::{Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use guest_init::proto::config::{NameData, NameRecord};

/// The domain that no question leaves the guest for.
const DOMAIN: &str = "internal.";

/// How long others may remember an answer, in seconds: machines come and go.
const TTL_S: u32 = 5;

/// Longest string of a TXT record, in bytes.
const TXT_BYTES_MAX: usize = 255;

/// Largest answer over UDP to a client that does not say more, in bytes.
const UDP_BYTES_DEFAULT: u16 = 512;

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// In a datagram: a long answer is cut and marked.
    Udp,
    /// On a connection.
    Tcp,
}

/// What to do with a question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Send this.
    Ready(Vec<u8>),
    /// Ask the server beyond.
    Forward,
    /// It is no question: stay silent.
    Nothing,
}

/// The names of the app network.
#[derive(Debug, Default)]
pub(crate) struct Zone {
    records: RefCell<BTreeMap<Name, Vec<RData>>>,
}

impl Zone {
    /// Replaces all names; returns those that are no names.
    pub(crate) fn replace(&self, records: &[NameRecord]) -> Vec<String> {
        let mut names: BTreeMap<Name, Vec<RData>> = BTreeMap::new();
        let mut refused = Vec::new();
        for record in records {
            match parse(&record.name) {
                Some(name) => names.entry(name).or_default().push(rdata(&record.data)),
                None => refused.push(record.name.clone()),
            }
        }
        *self.records.borrow_mut() = names;
        refused
    }

    /// Answers a question of the app network; leaves the others to the server beyond.
    pub(crate) fn answer(&self, question: &[u8], transport: Transport) -> Answer {
        let Ok(message) = Message::from_vec(question) else {
            return Answer::Nothing;
        };
        if message.metadata.message_type != MessageType::Query {
            return Answer::Nothing;
        }
        let [query] = &message.queries[..] else {
            return reply(&message, ResponseCode::FormErr, Vec::new(), transport);
        };
        let name = query.name.to_lowercase();
        let domain = parse(DOMAIN).unwrap_or_default();
        if !domain.zone_of(&name) || message.metadata.op_code != OpCode::Query {
            return Answer::Forward;
        }
        let records = self.records.borrow();
        let Some(values) = records.get(&name) else {
            // A name in the middle of a longer one exists, without records.
            let exists = name == domain || records.keys().any(|longer| name.zone_of(longer));
            let code = if exists {
                ResponseCode::NoError
            } else {
                ResponseCode::NXDomain
            };
            return reply(&message, code, Vec::new(), transport);
        };
        let asked =
            |value: &&RData| query.query_type == RecordType::ANY || value.record_type() == query.query_type;
        let answers = values.iter().filter(asked);
        let answers = answers
            .map(|value| Record::from_rdata(query.name.clone(), TTL_S, value.clone()))
            .collect();
        reply(&message, ResponseCode::NoError, answers, transport)
    }
}

/// Returns the answer to a question that could not be forwarded.
pub(crate) fn refusal(question: &[u8]) -> Vec<u8> {
    let Ok(message) = Message::from_vec(question) else {
        return Vec::new();
    };
    match reply(&message, ResponseCode::ServFail, Vec::new(), Transport::Udp) {
        Answer::Ready(bytes) => bytes,
        Answer::Forward | Answer::Nothing => Vec::new(),
    }
}

fn reply(question: &Message, code: ResponseCode, answers: Vec<Record>, transport: Transport) -> Answer {
    let mut message = Message::new(
        question.metadata.id,
        MessageType::Response,
        question.metadata.op_code,
    );
    message.metadata = Metadata::response_from_request(&question.metadata);
    message.metadata.authoritative = code != ResponseCode::ServFail;
    message.metadata.recursion_available = true;
    message.metadata.response_code = code;
    message.queries.clone_from(&question.queries);
    message.add_answers(answers);
    let limit = match transport {
        Transport::Udp => usize::from(question.max_payload().max(UDP_BYTES_DEFAULT)),
        Transport::Tcp => usize::from(u16::MAX),
    };
    match message.to_vec() {
        Ok(bytes) if bytes.len() <= limit => Answer::Ready(bytes),
        // The client asks again on a connection.
        Ok(_) => message.truncate().to_vec().map_or(Answer::Nothing, Answer::Ready),
        Err(_) => Answer::Nothing,
    }
}

fn parse(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?.to_lowercase();
    name.set_fqdn(true);
    Some(name)
}

fn rdata(data: &NameData) -> RData {
    match data {
        NameData::Aaaa(address) => RData::AAAA(AAAA(*address)),
        NameData::A(address) => RData::A(A(*address)),
        NameData::Txt(text) => RData::TXT(TXT::from_bytes(text.as_bytes().chunks(TXT_BYTES_MAX).collect())),
    }
}

#[cfg(test)]
mod tests;
