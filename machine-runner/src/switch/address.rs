//! Addresses of machines on their app's network: computed from names, so that they stay the same. Pure.
//!
//! An address is `fdaa:<network, 2 groups>:a7b:<host>:<machine, 3 groups>`, as the Machines API's users know it.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The 32 bits of an address that an app's network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NetworkId(u32);

/// The 16 bits of an address that a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostId(u16);

/// The address of a network card: unicast, locally administered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mac([u8; 6]);

/// The text is not a unicast MAC address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not the address of a network card: expected six pairs of digits, as in 02:00:00:00:00:01"
)]
pub struct MacSyntax {
    /// The text as given.
    pub text: String,
}

impl NetworkId {
    /// Returns the network of that name in an organization.
    #[must_use]
    pub fn of(org: &str, network: &str) -> Self {
        let digest = digest("network", &[org, network]);
        Self(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]))
    }
}

impl HostId {
    /// Returns the host of that node id.
    #[must_use]
    pub fn of(node_id: &str) -> Self {
        let digest = digest("host", &[node_id]);
        Self(u16::from_be_bytes([digest[0], digest[1]]))
    }
}

/// Returns the card that a machine has on its app's network, always the same.
#[must_use]
pub fn mac_of(machine_id: &str) -> Mac {
    let digest = digest("mac", &[machine_id]);
    Mac([
        digest[0] & 0xfc | 0x02,
        digest[1],
        digest[2],
        digest[3],
        digest[4],
        digest[5],
    ])
}

/// Returns a machine's address: the same at each call, unless it is taken.
///
/// * `taken`: whether another machine has the address already. The caller keeps what it was given, since a later call
///   may find the first choice free again.
#[must_use]
pub fn allocate(
    network: NetworkId,
    host: HostId,
    machine_id: &str,
    taken: &dyn Fn(Ipv6Addr) -> bool,
) -> Ipv6Addr {
    let mut attempt = 0_u64;
    loop {
        let address = candidate(network, host, machine_id, attempt);
        if !taken(address) {
            return address;
        }
        attempt += 1;
    }
}

fn candidate(network: NetworkId, host: HostId, machine_id: &str, attempt: u64) -> Ipv6Addr {
    let digest = digest("machine", &[machine_id, &attempt.to_string()]);
    let group = |index: usize| u16::from_be_bytes([digest[index * 2], digest[index * 2 + 1]]);
    let [high, low] = [network.0 >> 16, network.0 & 0xffff].map(|half| u16::try_from(half).expect("16 bits"));
    Ipv6Addr::new(0xfdaa, high, low, 0xa7b, host.0, group(0), group(1), group(2))
}

/// Writes an address with all eight groups, as the API's users split it.
#[must_use]
pub fn written(address: Ipv6Addr) -> String {
    let groups = address.segments().map(|group| format!("{group:x}"));
    groups.join(":")
}

/// Digests a purpose and texts, each with its length, so that no two lists of texts look alike.
fn digest(purpose: &str, texts: &[&str]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for text in [purpose].iter().chain(texts) {
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize().into()
}

impl Mac {
    /// Returns the six bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// Returns the link-local address that a kernel derives from the card (EUI-64).
    #[must_use]
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let groups = [[a ^ 2, b], [c, 0xff], [0xfe, d], [e, f]].map(u16::from_be_bytes);
        Ipv6Addr::new(0xfe80, 0, 0, 0, groups[0], groups[1], groups[2], groups[3])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = MacSyntax;

    fn from_str(text: &str) -> Result<Self, MacSyntax> {
        let syntax = || MacSyntax {
            text: text.to_owned(),
        };
        let mut bytes = [0; 6];
        let mut pairs = text.split(':');
        for byte in &mut bytes {
            let pair = pairs
                .next()
                .filter(|pair| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = pair
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                .ok_or_else(syntax)?;
        }
        let is_multicast = bytes[0] & 1 == 1;
        if pairs.next().is_some() || is_multicast || bytes == [0; 6] {
            Err(syntax())
        } else {
            Ok(Self(bytes))
        }
    }
}

impl TryFrom<String> for Mac {
    type Error = MacSyntax;

    fn try_from(text: String) -> Result<Self, MacSyntax> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests;
