use hickory_proto::op::Query;

use super::*;

fn zone() -> Zone {
    let record = |name: &str, data| NameRecord {
        name: name.to_owned(),
        data,
    };
    let zone = Zone::default();
    let refused = zone.replace(&[
        record("m1.vm.Web.internal", NameData::Aaaa("fdaa::1".parse().unwrap())),
        record("web.internal", NameData::Aaaa("fdaa::1".parse().unwrap())),
        record("web.internal", NameData::Aaaa("fdaa::2".parse().unwrap())),
        record("vms.web.internal", NameData::Txt("m1 ams,".repeat(60))),
        record("not..a.name", NameData::Txt(String::new())),
    ]);
    assert_eq!(refused, ["not..a.name"]);
    zone
}

fn ask(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

fn check(name: &str, kind: RecordType, code: ResponseCode, answers: &[&str]) {
    let Answer::Ready(bytes) = zone().answer(&ask(name, kind), Transport::Tcp) else {
        panic!("{name}: no answer")
    };
    let reply = Message::from_vec(&bytes).unwrap();
    assert_eq!(
        (reply.metadata.id, reply.metadata.response_code),
        (77, code),
        "{name}"
    );
    let got: Vec<String> = reply
        .answers
        .iter()
        .map(|record| record.data.to_string())
        .collect();
    assert_eq!(got, answers, "{name}");
}

#[test]
fn names_are_found_whatever_their_case() {
    check(
        "WEB.internal.",
        RecordType::AAAA,
        ResponseCode::NoError,
        &["fdaa::1", "fdaa::2"],
    );
    check(
        "m1.vm.web.internal.",
        RecordType::AAAA,
        ResponseCode::NoError,
        &["fdaa::1"],
    );
}

#[test]
fn a_name_without_such_a_record_exists_and_an_unknown_one_does_not() {
    check("web.internal.", RecordType::A, ResponseCode::NoError, &[]);
    check("vm.web.internal.", RecordType::AAAA, ResponseCode::NoError, &[]);
    check("other.internal.", RecordType::AAAA, ResponseCode::NXDomain, &[]);
    check("eb.internal.", RecordType::AAAA, ResponseCode::NXDomain, &[]);
}

#[test]
fn long_text_comes_in_strings_that_make_the_whole() {
    let Answer::Ready(bytes) = zone().answer(&ask("vms.web.internal.", RecordType::TXT), Transport::Tcp)
    else {
        panic!()
    };
    let reply = Message::from_vec(&bytes).unwrap();
    let RData::TXT(text) = &reply.answers[0].data else {
        panic!("{reply:?}")
    };
    assert_eq!(text.txt_data.concat(), "m1 ams,".repeat(60).as_bytes());
    assert_eq!(text.txt_data.len(), 2);
}

#[test]
fn a_long_answer_is_cut_in_a_datagram_and_says_so() {
    let zone = Zone::default();
    let data = |n: u16| NameData::Aaaa(std::net::Ipv6Addr::new(0xfdaa, 0, 0, 0, 0, 0, 0, n));
    let records: Vec<NameRecord> = (0..100)
        .map(|n| NameRecord {
            name: "web.internal".into(),
            data: data(n),
        })
        .collect();
    zone.replace(&records);
    let Answer::Ready(bytes) = zone.answer(&ask("web.internal.", RecordType::AAAA), Transport::Udp) else {
        panic!()
    };
    assert!(bytes.len() <= 512 && Message::from_vec(&bytes).unwrap().metadata.truncation);
    let Answer::Ready(bytes) = zone.answer(&ask("web.internal.", RecordType::AAAA), Transport::Tcp) else {
        panic!()
    };
    assert_eq!(Message::from_vec(&bytes).unwrap().answers.len(), 100);
}

#[test]
fn other_domains_are_forwarded_and_noise_is_not_answered() {
    assert_eq!(
        zone().answer(&ask("debian.org.", RecordType::A), Transport::Udp),
        Answer::Forward
    );
    assert_eq!(
        zone().answer(&ask("notinternal.", RecordType::A), Transport::Udp),
        Answer::Forward
    );
    assert_eq!(zone().answer(b"\x00\x01noise", Transport::Udp), Answer::Nothing);
    let refused = Message::from_vec(&refusal(&ask("debian.org.", RecordType::A))).unwrap();
    assert_eq!(refused.metadata.response_code, ResponseCode::ServFail);
}
