//! Events for the host, kept until it says that it has them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::Notify;

use guest_init::proto::{Event, message::NumberedEvent};

use crate::link::Link;

/// Events that are kept for a host that does not listen; the oldest go first.
const KEPT_MAX: usize = 256;

/// The events that the host has not stored yet.
#[derive(Debug)]
pub(crate) struct Events {
    link: Rc<Link>,
    state: RefCell<State>,
    acked: Notify,
}

#[derive(Debug, Default)]
struct State {
    last_seq: u64,
    unacked: VecDeque<NumberedEvent>,
}

impl Events {
    /// Returns an empty log that speaks through `link`.
    pub(crate) fn new(link: Rc<Link>) -> Self {
        Self {
            link,
            state: RefCell::default(),
            acked: Notify::new(),
        }
    }

    /// Tells the host, now or as soon as it listens.
    pub(crate) fn tell(&self, event: Event) {
        let mut state = self.state.borrow_mut();
        state.last_seq += 1;
        let seq = state.last_seq;
        self.link.event(seq, &event);
        if state.unacked.len() == KEPT_MAX {
            state.unacked.pop_front();
        }
        state.unacked.push_back(NumberedEvent { seq, event });
    }

    /// A new session: tells again what came after `seq`.
    pub(crate) fn repeat_after(&self, seq: u64) {
        self.acked(seq);
        for kept in &self.state.borrow().unacked {
            self.link.event(kept.seq, &kept.event);
        }
    }

    /// The host has stored everything up to `seq`.
    pub(crate) fn acked(&self, seq: u64) {
        self.state.borrow_mut().unacked.retain(|kept| kept.seq > seq);
        self.acked.notify_waiters();
    }

    /// Waits until the host has stored everything.
    pub(crate) async fn all_acked(&self) {
        while !self.state.borrow().unacked.is_empty() {
            self.acked.notified().await;
        }
    }
}
