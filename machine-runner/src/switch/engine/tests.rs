use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;
use crate::switch::address::{HostId, NetworkId, allocate, mac_of};

const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

fn machine(id: &str) -> PortAddresses {
    let address = allocate(NetworkId::of("org", "app"), HostId::of("node"), id, &|_| false);
    PortAddresses {
        mac: mac_of(id),
        addresses: vec![address],
    }
}

fn packet(source: Ipv6Addr, target: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
    packet.extend_from_slice(&[next, 64]);
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&target.octets());
    packet.extend_from_slice(payload);
    packet
}

fn frame(to: [u8; 6], from: Mac, packet: &[u8]) -> Vec<u8> {
    [&to[..], &from.bytes(), &[0x86, 0xdd], packet].concat()
}

/// A UDP datagram from one machine to another.
fn datagram(from: &PortAddresses, to: &PortAddresses) -> Vec<u8> {
    frame(
        to.mac.bytes(),
        from.mac,
        &packet(from.addresses[0], to.addresses[0], 17, b"12345678hello"),
    )
}

fn neighbor(kind: u8, target: Ipv6Addr, option: u8, card: Mac) -> Vec<u8> {
    [
        &[kind, 0, 0, 0, 0, 0, 0, 0],
        &target.octets()[..],
        &[option, 1],
        &card.bytes(),
    ]
    .concat()
}

struct Net {
    engine: Engine,
    a: PortAddresses,
    b: PortAddresses,
    port_a: PortId,
    port_b: PortId,
}

fn net() -> Net {
    let mut engine = Engine::default();
    let (a, b) = (machine("a"), machine("b"));
    let port_a = engine.add(Duration::ZERO, a.clone()).unwrap();
    let port_b = engine.add(Duration::ZERO, b.clone()).unwrap();
    Net {
        engine,
        a,
        b,
        port_a,
        port_b,
    }
}

fn check(net: &mut Net, frame: &[u8], expected: Verdict) {
    assert_eq!(net.engine.forward(Duration::ZERO, net.port_a, frame), expected);
}

#[test]
fn a_frame_reaches_the_port_that_owns_its_destination_and_no_other() {
    let mut net = net();
    let port_b = net.port_b;
    let c = net.engine.add(Duration::ZERO, machine("c")).unwrap();
    let to_b = datagram(&net.a, &net.b);
    check(&mut net, &to_b, Verdict::To(port_b));
    net.engine.remove(port_b);
    check(&mut net, &to_b, Verdict::Drop(Refusal::UnknownDestination));
    assert_eq!(net.engine.others(net.port_a).collect::<Vec<_>>(), [c]);
    let counters = net.engine.counters(net.port_a).unwrap();
    assert_eq!(
        (counters.forwarded, counters.dropped[&Refusal::UnknownDestination]),
        (1, 1)
    );
}

#[test]
fn unknown_unicast_is_never_flooded() {
    let mut net = net();
    let stranger = machine("stranger");
    let frame = datagram(&net.a.clone(), &stranger);
    check(&mut net, &frame, Verdict::Drop(Refusal::UnknownDestination));
}

#[test]
fn spoofed_cards_and_addresses_are_dropped() {
    let mut net = net();
    let (a, b) = (net.a.clone(), net.b.clone());
    let other = machine("other-network");
    let mut wrong_card = datagram(&a, &b);
    wrong_card[6..12].copy_from_slice(&b.mac.bytes());
    check(&mut net, &wrong_card, Verdict::Drop(Refusal::SourceCard));
    for source in [
        b.addresses[0],
        b.mac.link_local(),
        other.addresses[0],
        "2001:db8::1".parse().unwrap(),
    ] {
        let spoofed = frame(b.mac.bytes(), a.mac, &packet(source, b.addresses[0], 17, b"x"));
        check(&mut net, &spoofed, Verdict::Drop(Refusal::SourceAddress));
    }
    let unspecified = frame(
        b.mac.bytes(),
        a.mac,
        &packet(Ipv6Addr::UNSPECIFIED, b.addresses[0], 17, b"x"),
    );
    check(&mut net, &unspecified, Verdict::Drop(Refusal::SourceAddress));
}

#[test]
fn only_ipv6_passes() {
    let mut net = net();
    let port_b = net.port_b;
    let mut frame = datagram(&net.a.clone(), &net.b.clone());
    check(&mut net, &frame, Verdict::To(port_b));
    for ethertype in [[0x08, 0x00], [0x08, 0x06], [0x81, 0x00]] {
        frame[12..14].copy_from_slice(&ethertype);
        check(&mut net, &frame, Verdict::Drop(Refusal::Protocol));
    }
    let mut broadcast = datagram(&net.a.clone(), &net.b.clone());
    broadcast[..6].fill(0xff);
    check(&mut net, &broadcast, Verdict::Drop(Refusal::Group));
}

#[test]
fn neighbour_discovery_works_for_oneself_and_for_nobody_else() {
    let mut net = net();
    let (a, b) = (net.a.clone(), net.b.clone());
    let port_b = net.port_b;
    let (mine, theirs) = (a.addresses[0], b.addresses[0]);
    let solicit = |card| {
        frame(
            ALL_NODES,
            a.mac,
            &packet(mine, theirs, 58, &neighbor(135, theirs, 1, card)),
        )
    };
    check(&mut net, &solicit(a.mac), Verdict::Flood);
    check(&mut net, &solicit(b.mac), Verdict::Drop(Refusal::Neighbor));
    let advertise = |target, card| {
        frame(
            b.mac.bytes(),
            a.mac,
            &packet(mine, theirs, 58, &neighbor(136, target, 2, card)),
        )
    };
    check(&mut net, &advertise(mine, a.mac), Verdict::To(port_b));
    check(
        &mut net,
        &advertise(a.mac.link_local(), a.mac),
        Verdict::To(port_b),
    );
    check(
        &mut net,
        &advertise(theirs, a.mac),
        Verdict::Drop(Refusal::Neighbor),
    );
    check(
        &mut net,
        &advertise(mine, b.mac),
        Verdict::Drop(Refusal::Neighbor),
    );
    let duplicate_detection = [&[135, 0, 0, 0, 0, 0, 0, 0], &mine.octets()[..]].concat();
    let group = "ff02::1:ff00:1".parse().unwrap();
    let probe = frame(
        ALL_NODES,
        a.mac,
        &packet(Ipv6Addr::UNSPECIFIED, group, 58, &duplicate_detection),
    );
    check(&mut net, &probe, Verdict::Flood);
    for (kind, bytes) in [(134, 16), (137, 40)] {
        let mut message = vec![0; bytes];
        message[0] = kind;
        let router = frame(ALL_NODES, a.mac, &packet(a.mac.link_local(), group, 58, &message));
        check(&mut net, &router, Verdict::Drop(Refusal::Neighbor));
        // The same behind a destination-options header.
        let hidden = [&[58, 0, 1, 4, 0, 0, 0, 0], message.as_slice()].concat();
        let router = frame(ALL_NODES, a.mac, &packet(a.mac.link_local(), group, 60, &hidden));
        check(&mut net, &router, Verdict::Drop(Refusal::Neighbor));
    }
}

#[test]
fn multicast_listener_reports_pass_behind_their_router_alert() {
    let mut net = net();
    let a = net.a.clone();
    let report = [&[58, 0, 5, 2, 0, 0, 1, 0], &[143, 0, 0, 0, 0, 0, 0, 0][..]].concat();
    for source in [Ipv6Addr::UNSPECIFIED, a.mac.link_local()] {
        let group = "ff02::16".parse().unwrap();
        check(
            &mut net,
            &frame(ALL_NODES, a.mac, &packet(source, group, 0, &report)),
            Verdict::Flood,
        );
    }
}

#[test]
fn multicast_is_bounded_per_port_and_recovers() {
    let mut net = net();
    let group = "ff02::1".parse().unwrap();
    let hello = |from: &PortAddresses| {
        frame(
            ALL_NODES,
            from.mac,
            &packet(from.addresses[0], group, 17, b"hello"),
        )
    };
    let (from_a, from_b) = (hello(&net.a), hello(&net.b));
    let flood = |net: &mut Net, now, port, frame: &[u8]| {
        (0..5_000)
            .filter(|_| net.engine.forward(now, port, frame) == Verdict::Flood)
            .count()
    };
    let (port_a, port_b) = (net.port_a, net.port_b);
    assert_eq!(flood(&mut net, Duration::ZERO, port_a, &from_a), 1_000);
    assert_eq!(flood(&mut net, Duration::from_millis(100), port_a, &from_a), 50);
    assert_eq!(flood(&mut net, Duration::from_secs(60), port_a, &from_a), 1_000);
    assert_eq!(
        flood(&mut net, Duration::from_secs(60), port_b, &from_b),
        1_000,
        "one port's flood is not another's"
    );
    assert_eq!(
        net.engine.counters(port_a).unwrap().dropped[&Refusal::Rate],
        15_000 - 2_050
    );
}

#[test]
fn a_card_or_an_address_is_on_one_port_only() {
    let mut net = net();
    let twin = net.engine.add(Duration::ZERO, net.a.clone());
    assert_eq!(twin, Err(AddError::Card { mac: net.a.mac }));
    let thief = PortAddresses {
        mac: mac_of("thief"),
        addresses: net.a.addresses.clone(),
    };
    assert_eq!(
        net.engine.add(Duration::ZERO, thief),
        Err(AddError::Address {
            address: net.a.addresses[0]
        })
    );
    net.engine.remove(net.port_a);
    assert!(net.engine.add(Duration::ZERO, net.a.clone()).is_ok());
    for i in 2..PORTS_MAX {
        net.engine.add(Duration::ZERO, machine(&i.to_string())).unwrap();
    }
    assert_eq!(
        net.engine.add(Duration::ZERO, machine("one more")),
        Err(AddError::Full)
    );
}

/// A frame that is right except for random changes, or random altogether.
fn any_frame(a: PortAddresses, b: PortAddresses) -> impl Strategy<Value = Vec<u8>> {
    let changed = prop::collection::vec((0usize..100, any::<u8>()), 0..4).prop_map(move |changes| {
        let mut frame = datagram(&a, &b);
        for (at, value) in changes {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        frame
    });
    prop_oneof![changed, prop::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #[test]
    fn prop_what_passes_comes_from_the_ports_own_card_and_address(frame in any_frame(machine("a"), machine("b"))) {
        let mut net = net();
        match net.engine.forward(Duration::ZERO, net.port_a, &frame) {
            Verdict::Drop(_) => {}
            verdict => {
                prop_assert!(verdict == Verdict::Flood || verdict == Verdict::To(net.port_b));
                prop_assert_eq!(&frame[6..12], &net.a.mac.bytes()[..]);
                let source: [u8; 16] = frame[22..38].try_into().unwrap();
                let source = Ipv6Addr::from(source);
                prop_assert!(
                    source == net.a.addresses[0] || source == net.a.mac.link_local() || source.is_unspecified()
                );
            }
        }
    }

    #[test]
    fn prop_no_frame_of_one_app_reaches_a_port_of_another(frame in any_frame(machine("a"), machine("foreign"))) {
        // Another app's network is another engine: whatever its addresses, none of its ports can be named here.
        let mut net = net();
        let mut foreign = Engine::default();
        let port = foreign.add(Duration::ZERO, machine("foreign")).unwrap();
        let verdict = net.engine.forward(Duration::ZERO, net.port_a, &frame);
        prop_assert!(!matches!(verdict, Verdict::To(to) if to != net.port_b));
        prop_assert_eq!(foreign.counters(port), Some(&Counters::default()));
        prop_assert_eq!(net.engine.others(net.port_a).collect::<Vec<_>>(), vec![net.port_b]);
    }
}
