//! PURE. When to look at a lease, to want it, to take it, to renew it and to let it go.
//!
//! Time is each node's own. A holder counts a renewal from the moment at which it was asked for; whoever waits counts from the
//! moment at which he saw it. Each leaves a fiftieth of the time to live to clocks that run unequally. So a lease has ended for its holder
//! before it is free for anybody else, whatever messages take and whatever clocks on the wall say.
//!
//! A free lease is not taken at once: whoever wants it says so and how far it has come, and looks again after a while. The one
//! that has come furthest takes it. One that has nothing never takes it from those who had something; one that is behind what the
//! last holder said waits as long as the lease lasts for somebody who is not.

mod vacancy;

use std::time::{Duration, Instant};

use crate::{Candidate, Epoch, Grant, Held, Holder, NodeId, Progress, Timing, View};
use vacancy::Vacancy;

/// What part of the time to live is left to clocks that run unequally, on either side.
const MARGIN: u32 = 50;

/// What a node is and wants.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who it is.
    pub me: NodeId,
    /// Whether it may become primary.
    pub candidate: bool,
    /// How the lease is paced.
    pub timing: Timing,
    /// How long it does not want the lease after it was asked to let it go.
    pub demote_delay: Duration,
    /// A mistake, to see that tests find it.
    #[doc(hidden)]
    pub mutant: Option<Mutant>,
}

/// Mistakes that others have made.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A lease is free for others as soon as half of its time has passed.
    TakeEarly,
    /// A holder goes on while renewals fail.
    NeverExpire,
    /// A node that has nothing may win.
    EmptyWins,
    /// Whoever comes first wins.
    FirstWins,
    /// A former primary's own transactions count for as much as the cluster's.
    ForgetEpoch,
}

/// What the node says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Let the lease go, and do not want it for a while.
    Demote,
    /// Hand it over.
    HandOff(NodeId),
    /// The node does as a primary does: that is to be known soon, how far it has come too.
    Began,
    /// Whatever was being acknowledged when the lease began to be let go is.
    Drained,
    /// The other has been told, and has everything.
    HandedOff,
    /// The other cannot be told.
    HandOffFailed,
    /// Another hands it over to us.
    Offered(String),
    /// Let the lease go, for good.
    Stop,
}

/// What is asked of where the lease is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// How does it stand?
    Look,
    /// We want it.
    Announce(View, Candidate),
    /// Give it to us.
    Acquire(View),
    /// We go on.
    Renew(Grant),
    /// We give it back.
    Release(Grant),
    /// Keep it for another.
    PassOn(Grant, NodeId),
    /// Another kept it for us.
    TakeOver(String),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// So it stands.
    Looked(View),
    /// It is known that we want it, or that we gave it back.
    Done,
    /// It is ours, or not.
    Granted(Option<Grant>),
    /// Another can take it over by this; or it was lost.
    PassedOn(Option<String>),
    /// Nobody knows.
    Failed,
}

/// What to do next.
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask, then [`Engine::answer`].
    Ask(Request),
    /// Until then, or until the node says something.
    Wait(Instant),
    /// Nothing any more.
    Stopped,
}

/// What the node is at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It knows of no primary.
    Nobody,
    /// Another is primary.
    Replica {
        /// Who.
        primary: Holder,
        /// Of its acquisition.
        epoch: Epoch,
    },
    /// This node is primary. [`crate::Right`] says for how long.
    Primary {
        /// Of its acquisition.
        epoch: Epoch,
    },
    /// It was primary and lets the lease go: it acknowledges nothing new, and says when nothing old is left.
    Leaving,
    /// It was primary and hands the lease over: it acknowledges nothing new, and says when nothing old is left.
    HandingOver {
        /// To whom.
        to: NodeId,
        /// What the other takes it over by, once that is known.
        lease: Option<String>,
    },
}

/// Why a lease was let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// It was not renewed in time.
    #[error("the lease could not be renewed in time")]
    Expired,
    /// Somebody else has it, or it is gone.
    #[error("the lease is another's")]
    Taken,
}

/// Why a node does not want a free lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It was configured so.
    #[error("node is not a candidate")]
    NotCandidate,
    /// It was asked to let it go.
    #[error("node was asked to step down a while ago")]
    Resting,
    /// It is another's.
    #[error("node belongs to another cluster than the lease")]
    OtherCluster,
    /// It has not followed the cluster yet.
    #[error("node belongs to no cluster yet, and the lease does")]
    NoCluster,
    /// It has nothing, and the cluster had something.
    #[error("node has no transaction, and the cluster had some")]
    Empty,
}

#[derive(Debug)]
enum State {
    Follows(Option<Vacancy>),
    Offered(String),
    Holds(Holds),
}

#[derive(Debug)]
struct Holds {
    grant: Grant,
    until: Instant,
    renew_at: Instant,
    leaves: Option<Leaves>,
    drained: bool,
}

#[derive(Debug)]
enum Leaves {
    Release,
    HandOff { to: NodeId, lease: Option<String> },
}

/// One node and the lease.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    state: State,
    progress: Progress,
    cluster: Option<String>,
    view: Option<View>,
    /// What is watched for not changing, and since when.
    watched: Option<((Epoch, u64), Instant)>,
    asked_at: Option<Instant>,
    look_at: Instant,
    competes_at: Instant,
    beat: u64,
    stopping: bool,
    lost: Option<Lost>,
    refused: Option<Refused>,
}

impl Engine {
    /// Begins, without a lease.
    #[must_use]
    pub fn new(now: Instant, settings: Settings) -> Self {
        Self {
            settings,
            state: State::Follows(None),
            progress: Progress::default(),
            cluster: None,
            view: None,
            watched: None,
            asked_at: None,
            look_at: now,
            competes_at: now,
            beat: 0,
            stopping: false,
            lost: None,
            refused: None,
        }
    }

    /// Begins with a lease that was granted before.
    ///
    /// * `asked_at`: when it was asked for.
    #[must_use]
    pub fn holding(settings: Settings, grant: Grant, asked_at: Instant) -> Self {
        let mut engine = Self::new(asked_at, settings);
        engine.hold(asked_at, grant);
        engine
    }

    /// Takes down how far the node has come and which cluster it belongs to, if it does.
    pub fn set_progress(&mut self, progress: Progress, cluster: Option<String>) {
        self.progress = progress;
        self.cluster = cluster;
    }

    /// Returns what the node is.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match &self.state {
            State::Holds(Holds {
                leaves: Some(Leaves::HandOff { to, lease }),
                ..
            }) => Standing::HandingOver {
                to: to.clone(),
                lease: lease.clone(),
            },
            State::Holds(Holds {
                leaves: None, grant, ..
            }) => Standing::Primary { epoch: grant.epoch },
            State::Holds(Holds {
                leaves: Some(Leaves::Release),
                ..
            }) => Standing::Leaving,
            State::Offered(_) => Standing::Nobody,
            State::Follows(_) => match &self.view {
                Some(View {
                    held: Held::By(primary),
                    ours: false,
                    epoch,
                    ..
                }) => Standing::Replica {
                    primary: primary.clone(),
                    epoch: *epoch,
                },
                Some(_) | None => Standing::Nobody,
            },
        }
    }

    /// Returns under which epoch, and until when, the node may acknowledge.
    #[must_use]
    pub fn right(&self) -> Option<(Epoch, Instant)> {
        match &self.state {
            State::Holds(holds) if holds.leaves.is_none() => Some((holds.grant.epoch, holds.until)),
            State::Holds(_) | State::Offered(_) | State::Follows(_) => None,
        }
    }

    /// Returns why the lease was lost, once.
    pub fn take_lost(&mut self) -> Option<Lost> {
        self.lost.take()
    }

    /// Returns why the node does not want the lease, if it was free when it looked last.
    #[must_use]
    pub fn refused(&self) -> Option<Refused> {
        self.refused
    }

    /// Returns when [`expire`](Self::expire) has something to do, also while an answer is awaited.
    #[must_use]
    pub fn expires_at(&self) -> Option<Instant> {
        match &self.state {
            State::Holds(holds) => Some(holds.until),
            State::Offered(_) | State::Follows(_) => None,
        }
    }

    /// Lets go of what was not renewed in time.
    pub fn expire(&mut self, now: Instant) {
        if self.expires_at().is_some_and(|until| now >= until) {
            self.step_down(now, Some(Lost::Expired));
        }
    }

    /// Takes what the node says.
    pub fn handle(&mut self, now: Instant, input: Input) {
        self.expire(now);
        let leaves = match input {
            Input::Stop => {
                self.stopping = true;
                Leaves::Release
            }
            Input::Demote => {
                self.competes_at = now + self.settings.demote_delay;
                Leaves::Release
            }
            Input::HandOff(to) => Leaves::HandOff { to, lease: None },
            Input::Began => {
                if let State::Holds(holds) = &mut self.state {
                    holds.renew_at = now;
                }
                return;
            }
            Input::Drained => {
                if let State::Holds(holds) = &mut self.state {
                    holds.drained = holds.leaves.is_some();
                }
                return;
            }
            Input::HandedOff => {
                if matches!(self.standing(), Standing::HandingOver { .. }) {
                    self.step_down(now, None);
                }
                return;
            }
            Input::HandOffFailed => {
                if let Standing::HandingOver {
                    lease: Some(lease), ..
                } = self.standing()
                {
                    self.state = State::Offered(lease);
                }
                return;
            }
            Input::Offered(lease) => {
                if matches!(self.state, State::Follows(_)) && self.settings.candidate && !self.stopping {
                    self.state = State::Offered(lease);
                }
                return;
            }
        };
        if let State::Holds(holds) = &mut self.state
            && (holds.leaves.is_none() || self.stopping)
        {
            holds.leaves = Some(leaves);
        }
    }

    /// Returns what to do now. Not while an answer is awaited.
    pub fn next(&mut self, now: Instant) -> Step {
        assert!(self.asked_at.is_none(), "an answer is awaited");
        self.expire(now);
        let request = match &mut self.state {
            State::Holds(Holds {
                grant,
                leaves,
                until,
                renew_at,
                drained,
            }) => match leaves {
                Some(_) if !*drained => return Step::Wait(*until),
                Some(Leaves::Release) => Request::Release(grant.clone()),
                Some(Leaves::HandOff { to, lease: None }) => Request::PassOn(grant.clone(), to.clone()),
                Some(Leaves::HandOff { lease: Some(_), .. }) => return Step::Wait(*until),
                None if now >= *renew_at => Request::Renew(grant.clone()),
                None => return Step::Wait((*renew_at).min(*until)),
            },
            State::Offered(lease) => Request::TakeOver(lease.clone()),
            State::Follows(_) if self.stopping => return Step::Stopped,
            State::Follows(vacancy) => match (vacancy, &self.view) {
                (Some(vacancy), Some(view)) if vacancy.acquire => Request::Acquire(view.clone()),
                (Some(vacancy), Some(view)) if vacancy.announce => {
                    vacancy.announce = false;
                    self.beat += 1;
                    let candidate = Candidate {
                        progress: self.progress,
                        beat: self.beat,
                    };
                    Request::Announce(view.clone(), candidate)
                }
                _ if now >= self.look_at => Request::Look,
                _ => return Step::Wait(self.look_at),
            },
        };
        self.asked_at = Some(now);
        Step::Ask(request)
    }

    /// Takes an answer. One that comes after the lease has ended changes nothing but what is looked at next.
    pub fn answer(&mut self, now: Instant, answer: Answer) {
        let asked_at = self.asked_at.take().unwrap_or(now);
        self.expire(now);
        match answer {
            Answer::Looked(view) => self.looked(now, view),
            Answer::Done => {
                if matches!(self.state, State::Holds(_)) {
                    self.step_down(now, None);
                }
            }
            Answer::Granted(grant) => self.granted(now, asked_at, grant),
            Answer::PassedOn(Some(passed)) => {
                if let State::Holds(Holds {
                    leaves: Some(Leaves::HandOff { lease, .. }),
                    ..
                }) = &mut self.state
                {
                    *lease = Some(passed);
                }
            }
            Answer::PassedOn(None) => self.step_down(now, Some(Lost::Taken)),
            Answer::Failed => self.failed(now),
        }
    }

    fn granted(&mut self, now: Instant, asked_at: Instant, grant: Option<Grant>) {
        match (&mut self.state, grant) {
            (State::Holds(holds), Some(grant)) => {
                holds.grant = grant;
                (holds.until, holds.renew_at) = lasts(&self.settings, asked_at);
            }
            // It stepped down while it asked: what was granted is looked at, and taken anew under another epoch.
            (State::Follows(None), Some(_)) => self.look_at = now,
            (State::Follows(Some(_)) | State::Offered(_), Some(grant)) => {
                self.hold(asked_at, grant);
                self.expire(now);
            }
            (State::Holds(_), None) => self.step_down(now, Some(Lost::Taken)),
            // Another may only have said that he wants it.
            (State::Follows(vacancy), None) => {
                self.look_at = now;
                if let Some(vacancy) = vacancy {
                    vacancy.acquire = false;
                }
            }
            (State::Offered(_), None) => self.step_down(now, None),
        }
        if self.stopping
            && let State::Holds(holds) = &mut self.state
        {
            holds.leaves = Some(Leaves::Release);
        }
    }

    fn hold(&mut self, asked_at: Instant, grant: Grant) {
        let (until, renew_at) = lasts(&self.settings, asked_at);
        self.state = State::Holds(Holds {
            grant,
            until,
            renew_at,
            leaves: None,
            drained: false,
        });
    }

    fn failed(&mut self, now: Instant) {
        let again = now + self.settings.timing.look_interval;
        match &mut self.state {
            State::Holds(holds) => match &holds.leaves {
                None => holds.renew_at = again,
                // It ends by itself.
                Some(Leaves::Release | Leaves::HandOff { .. }) => self.step_down(now, None),
            },
            State::Offered(_) => self.step_down(now, None),
            State::Follows(vacancy) => {
                *vacancy = None;
                self.look_at = again;
            }
        }
    }

    fn step_down(&mut self, now: Instant, why: Option<Lost>) {
        self.state = State::Follows(None);
        self.lost = why.or(self.lost);
        self.view = None;
        self.look_at = now;
    }

    fn looked(&mut self, now: Instant, view: View) {
        let timing = self.settings.timing;
        self.look_at = now + timing.look_interval;
        let key = (view.epoch, view.renewal);
        if self.watched.is_none_or(|(watched, _)| watched != key) {
            self.watched = Some((key, now));
        }
        let mine = matches!(view.held, Held::By(_)) && view.ours;
        let free = match view.held {
            Held::Free => true,
            Held::By(_) => mine || self.has_ended(now, &view),
            Held::KeptFor(..) => self.has_ended(now, &view),
        };
        self.refused = free.then(|| self.refuses(now, &view)).flatten();
        let State::Follows(vacancy) = &mut self.state else {
            self.view = Some(view);
            return;
        };
        if !free || self.refused.is_some() {
            *vacancy = None;
        } else {
            let window = timing.look_interval * 2;
            // Behind what the last holder said: somebody else may not be.
            let behind = self.progress < view.progress;
            let patience = if behind { timing.ttl } else { Duration::ZERO };
            let vacancy = vacancy.get_or_insert_with(|| Vacancy::new(now, window, patience));
            let rank = vacancy::Rank::new(self.settings.mutant);
            vacancy.looked(now, &view, (self.progress, &self.settings.me), &rank);
            // Nobody else has had it since.
            vacancy.acquire |= mine;
            self.look_at = self.look_at.min(vacancy.decides_at());
        }
        self.view = Some(view);
    }

    fn has_ended(&self, now: Instant, view: &View) -> bool {
        let Some((ttl, (_, since))) = view.ttl.zip(self.watched) else {
            return false;
        };
        let lasts = if self.is(Mutant::TakeEarly) {
            ttl / 2
        } else {
            ttl + ttl / MARGIN
        };
        now >= since + lasts
    }

    fn refuses(&self, now: Instant, view: &View) -> Option<Refused> {
        if !self.settings.candidate || self.stopping {
            return Some(Refused::NotCandidate);
        }
        if now < self.competes_at {
            return Some(Refused::Resting);
        }
        match (&view.cluster, &self.cluster) {
            _ if self.is(Mutant::EmptyWins) => return None,
            (Some(theirs), Some(ours)) if theirs != ours => return Some(Refused::OtherCluster),
            (Some(_), None) if view.begun => return Some(Refused::NoCluster),
            (Some(_), Some(_) | None) | (None, _) => {}
        }
        (self.progress.is_empty() && !view.progress.is_empty()).then_some(Refused::Empty)
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.settings.mutant == Some(mutant)
    }
}

/// Until when a lease lasts for its holder, and when it is to be renewed.
fn lasts(settings: &Settings, asked_at: Instant) -> (Instant, Instant) {
    let Timing { ttl, renew_after, .. } = settings.timing;
    let held = match settings.mutant {
        Some(Mutant::NeverExpire) => ttl * 1000,
        Some(_) | None => ttl - ttl / MARGIN,
    };
    (asked_at + held, asked_at + renew_after)
}

#[cfg(test)]
mod tests;
