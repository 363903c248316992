//! The forwarding engine of one app's network. Pure.
//!
//! The cards of all ports are known from the start, so that nothing is learnt from traffic and nothing unknown is
//! flooded: a frame goes to the port that owns its destination, to every port when it is multicast, or nowhere.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::address::Mac;
use super::frame::{Destination, PortAddresses, Refusal};

/// Multicast frames a port may send at once, before the rate counts.
const MULTICAST_BURST: u32 = 1_000;
/// Multicast frames a port may send a second, in the long run.
const MULTICAST_PER_SECOND: u32 = 500;
/// The most ports of one network.
pub const PORTS_MAX: usize = 1_024;

/// A port of a running engine; never given out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(u64);

/// Why a port was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// Another port has the card.
    #[error("card {mac} is on another port already")]
    Card { mac: Mac },
    /// Another port has one of the addresses.
    #[error("address {address} is on another port already")]
    Address { address: std::net::Ipv6Addr },
    /// The network is full.
    #[error("the network has {PORTS_MAX} ports already")]
    Full,
}

/// What happens to a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to this port.
    To(PortId),
    /// It goes to every port but its own: see [`Engine::others`].
    Flood,
    /// It goes nowhere.
    Drop(Refusal),
}

/// What a port has sent so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    pub forwarded: u64,
    pub flooded: u64,
    pub dropped: BTreeMap<Refusal, u64>,
}

#[derive(Debug)]
struct Port {
    addresses: PortAddresses,
    counters: Counters,
    /// Multicast frames that may still be sent, in thousandths.
    tokens: u64,
    refilled: Duration,
}

/// The ports of one network.
#[derive(Debug, Default)]
pub struct Engine {
    ports: BTreeMap<PortId, Port>,
    by_card: BTreeMap<[u8; 6], PortId>,
    next: u64,
}

impl Engine {
    /// Adds a port.
    ///
    /// * `now`: time since an arbitrary start, never going backwards.
    ///
    /// # Errors
    /// [`AddError`].
    pub fn add(&mut self, now: Duration, addresses: PortAddresses) -> Result<PortId, AddError> {
        let mac = addresses.mac;
        if self.by_card.contains_key(&mac.bytes()) {
            return Err(AddError::Card { mac });
        }
        let is_used = |address| {
            self.ports
                .values()
                .any(|port| port.addresses.addresses.contains(address))
        };
        if let Some(address) = addresses.addresses.iter().find(|address| is_used(address)) {
            return Err(AddError::Address { address: *address });
        }
        if self.ports.len() >= PORTS_MAX {
            return Err(AddError::Full);
        }
        let id = PortId(self.next);
        self.next += 1;
        self.by_card.insert(mac.bytes(), id);
        let tokens = u64::from(MULTICAST_BURST) * 1_000;
        self.ports.insert(
            id,
            Port {
                addresses,
                counters: Counters::default(),
                tokens,
                refilled: now,
            },
        );
        Ok(id)
    }

    /// Removes a port; nothing happens when it is gone.
    pub fn remove(&mut self, id: PortId) {
        if let Some(port) = self.ports.remove(&id) {
            self.by_card.remove(&port.addresses.mac.bytes());
        }
    }

    /// Decides about a frame that came in on a port.
    ///
    /// Cost: O(log n) for n ports.
    pub fn forward(&mut self, now: Duration, from: PortId, frame: &[u8]) -> Verdict {
        let Some(port) = self.ports.get_mut(&from) else {
            return Verdict::Drop(Refusal::SourceCard);
        };
        let verdict = match port.addresses.check(frame) {
            Err(refusal) => Verdict::Drop(refusal),
            Ok(Destination::Group) => port.spend(now),
            Ok(Destination::Card(card)) => match self.by_card.get(&card) {
                Some(to) if *to != from => Verdict::To(*to),
                Some(_) | None => Verdict::Drop(Refusal::UnknownDestination),
            },
        };
        match verdict {
            Verdict::To(_) => port.counters.forwarded += 1,
            Verdict::Flood => port.counters.flooded += 1,
            Verdict::Drop(refusal) => *port.counters.dropped.entry(refusal).or_insert(0) += 1,
        }
        verdict
    }

    /// Returns the ports that a flooded frame goes to.
    pub fn others(&self, from: PortId) -> impl Iterator<Item = PortId> + '_ {
        self.ports.keys().copied().filter(move |id| *id != from)
    }

    /// Returns what a port has sent; `None` when it is gone.
    #[must_use]
    pub fn counters(&self, id: PortId) -> Option<&Counters> {
        self.ports.get(&id).map(|port| &port.counters)
    }
}

impl Port {
    fn spend(&mut self, now: Duration) -> Verdict {
        let elapsed_ms = u64::try_from(now.saturating_sub(self.refilled).as_millis()).unwrap_or(u64::MAX);
        let gained = elapsed_ms.saturating_mul(u64::from(MULTICAST_PER_SECOND));
        self.tokens = self
            .tokens
            .saturating_add(gained)
            .min(u64::from(MULTICAST_BURST) * 1_000);
        if elapsed_ms > 0 {
            self.refilled = now;
        }
        match self.tokens.checked_sub(1_000) {
            Some(left) => {
                self.tokens = left;
                Verdict::Flood
            }
            None => Verdict::Drop(Refusal::Rate),
        }
    }
}

#[cfg(test)]
mod tests;
