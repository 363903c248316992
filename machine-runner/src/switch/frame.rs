//! What a port may send: IPv6 from its own addresses, and neighbour discovery about itself. Pure.

use std::net::Ipv6Addr;

use super::address::Mac;

/// The largest frame that is forwarded: jumbo frames of 9,216 bytes and their header.
pub const FRAME_BYTES_MAX: usize = 9_216 + ETHERNET_BYTES;

const ETHERNET_BYTES: usize = 14;
const IPV6_BYTES: usize = 40;
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ICMPV6: u8 = 58;
const DESTINATION_OPTIONS: u8 = 60;
/// Headers before ICMPv6 that are looked through; kernels send one.
const EXTENSIONS_MAX: usize = 4;

const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;

/// The addresses that belong to a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortAddresses {
    /// The port's card.
    pub mac: Mac,
    /// The addresses assigned to it; its link-local address need not be among them.
    pub addresses: Vec<Ipv6Addr>,
}

/// Where a permitted frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To one card.
    Card([u8; 6]),
    /// To every other port.
    Group,
}

/// Why a frame is not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Shorter than its headers, or longer than [`FRAME_BYTES_MAX`].
    #[error("malformed frame")]
    Malformed,
    /// The source is not the port's card.
    #[error("source card is not the port's")]
    SourceCard,
    /// Something else than IPv6.
    #[error("not IPv6")]
    Protocol,
    /// The source is not an address of the port.
    #[error("source address is not the port's")]
    SourceAddress,
    /// Neighbour discovery that claims another's address, or speaks for a router.
    #[error("neighbour discovery for others")]
    Neighbor,
    /// To a group that is none of IPv6's.
    #[error("broadcast or foreign multicast")]
    Group,
    /// To a card that is on no port.
    #[error("unknown destination")]
    UnknownDestination,
    /// More multicast than a port may send.
    #[error("multicast rate")]
    Rate,
}

impl PortAddresses {
    fn owns(&self, address: Ipv6Addr) -> bool {
        address == self.mac.link_local() || self.addresses.contains(&address)
    }

    /// Says where a frame from this port may go.
    ///
    /// # Errors
    /// [`Refusal`] when it may go nowhere.
    pub fn check(&self, frame: &[u8]) -> Result<Destination, Refusal> {
        if frame.len() > FRAME_BYTES_MAX {
            return Err(Refusal::Malformed);
        }
        let (ethernet, packet) = frame.split_at_checked(ETHERNET_BYTES).ok_or(Refusal::Malformed)?;
        let destination: [u8; 6] = ethernet[..6].try_into().expect("six bytes");
        if ethernet[6..12] != self.mac.bytes() {
            return Err(Refusal::SourceCard);
        }
        if ethernet[12..] != ETHERTYPE_IPV6 {
            return Err(Refusal::Protocol);
        }
        self.check_packet(packet)?;
        match destination {
            [0x33, 0x33, ..] => Ok(Destination::Group),
            [first, ..] if first & 1 == 1 => Err(Refusal::Group),
            card => Ok(Destination::Card(card)),
        }
    }

    fn check_packet(&self, packet: &[u8]) -> Result<(), Refusal> {
        let (header, payload) = packet.split_at_checked(IPV6_BYTES).ok_or(Refusal::Malformed)?;
        let payload_bytes = usize::from(u16::from_be_bytes([header[4], header[5]]));
        // Behind the payload there may be padding up to the shortest Ethernet frame.
        let payload = payload.get(..payload_bytes).ok_or(Refusal::Malformed)?;
        if header[0] >> 4 != 6 {
            return Err(Refusal::Malformed);
        }
        let source = address_at(&header[8..24]);
        let icmp = icmp_of(header[6], payload)?;
        if source.is_unspecified() {
            // Duplicate address detection and multicast membership start before a card has an address.
            let target = address_at(&header[24..40]);
            if icmp.is_none() || !target.is_multicast() {
                return Err(Refusal::SourceAddress);
            }
        } else if !self.owns(source) {
            return Err(Refusal::SourceAddress);
        }
        icmp.map_or(Ok(()), |message| self.check_icmp(message))
    }

    /// A port speaks for itself alone: neighbours believe what it says.
    fn check_icmp(&self, message: &[u8]) -> Result<(), Refusal> {
        let Some(kind) = message.first() else {
            return Err(Refusal::Malformed);
        };
        match *kind {
            ROUTER_ADVERTISEMENT | REDIRECT => Err(Refusal::Neighbor),
            NEIGHBOR_SOLICITATION => self.check_options(message.get(24..).ok_or(Refusal::Malformed)?),
            NEIGHBOR_ADVERTISEMENT => {
                let target = address_at(message.get(8..24).ok_or(Refusal::Malformed)?);
                if !self.owns(target) {
                    return Err(Refusal::Neighbor);
                }
                self.check_options(&message[24..])
            }
            _ => Ok(()),
        }
    }

    /// Options 1 and 2 name a card: it must be the port's.
    fn check_options(&self, mut options: &[u8]) -> Result<(), Refusal> {
        while let [kind, units, ..] = *options {
            let (option, rest) = options
                .split_at_checked(usize::from(units) * 8)
                .ok_or(Refusal::Malformed)?;
            if option.is_empty() {
                return Err(Refusal::Malformed);
            }
            if matches!(kind, 1 | 2) && option[2..8] != self.mac.bytes() {
                return Err(Refusal::Neighbor);
            }
            options = rest;
        }
        if options.is_empty() {
            Ok(())
        } else {
            Err(Refusal::Malformed)
        }
    }
}

/// Finds the ICMPv6 message of a packet, behind extension headers too; `None` when it carries something else.
///
/// Later fragments hide what they are; receivers ignore neighbour discovery in fragments (RFC 6980), as Linux does.
fn icmp_of(mut next: u8, mut payload: &[u8]) -> Result<Option<&[u8]>, Refusal> {
    for _ in 0..=EXTENSIONS_MAX {
        let header_bytes = match next {
            ICMPV6 => return Ok(Some(payload)),
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                (usize::from(*payload.get(1).ok_or(Refusal::Malformed)?) + 1) * 8
            }
            FRAGMENT => return Ok(None),
            _ => return Ok(None),
        };
        next = payload[0];
        payload = payload.get(header_bytes..).ok_or(Refusal::Malformed)?;
    }
    Err(Refusal::Malformed)
}

fn address_at(bytes: &[u8]) -> Ipv6Addr {
    let bytes: [u8; 16] = bytes.try_into().expect("16 bytes");
    Ipv6Addr::from(bytes)
}
