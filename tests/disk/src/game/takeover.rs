//! The other host takes the disk over.

use super::hosts::{How, Tried};
use super::*;

impl Game {
    pub(super) async fn pause_owner(&mut self) {
        let pause = self.rng.random_range(1..40);
        self.owner().paused.send_replace(true);
        tokio::time::sleep(Duration::from_secs(pause)).await;
        self.owner().paused.send_replace(false);
    }

    /// The other host takes the disk over, while this one runs, sleeps or is dead.
    pub(super) async fn take_over(&mut self) -> Result<(), String> {
        let (old, new) = (self.owner, 1 - self.owner);
        self.guest.check()?;
        self.audit().await?;
        self.hosts[new].process = None;
        if self.rng.random_bool(0.3) {
            self.lose(new, Loss::Power);
        }
        let force = self.config.on_outage == OnOutage::Ride || self.rng.random_bool(0.2);
        let strict = !force && self.config.on_outage == OnOutage::Stop;
        self.common.store.set_faults(if self.rng.random_bool(0.5) {
            StoreFaults::CALM
        } else {
            StoreFaults::ROUGH
        });
        let first = self.owner().name.clone();
        self.guest.may_stop(&first);
        match self.rng.random_range(0..3) {
            0 => self.hosts[old].process = None,
            1 => drop(self.owner().paused.send_replace(true)),
            _ => {}
        }
        let before = self.guest.remote_floor();
        let mut how = How::AS_IT_IS;
        let opened = loop {
            match self.try_open_beside(new, force, &how).await? {
                Tried::Opened(opened) => break *opened,
                Tried::Damaged if self.hosts[new].hurt || self.hosts[new].faults.journal_hits() > 0 => {
                    how.discard_damaged = true;
                    continue;
                }
                Tried::Damaged => {
                    return Err("the journal is called damaged, and nothing was done to it".to_owned());
                }
                Tried::Died => {}
            }
            let again = if self.rng.random_bool(0.5) {
                Loss::Process
            } else {
                Loss::Power
            };
            self.lose(new, again);
        };
        let floor = if strict { self.guest.remote_floor() } else { before };
        self.guest.retire(&first, strict);
        self.guest.give_up();
        self.hosts[old].stale = true;
        self.owner = new;
        self.begin(new, opened);
        self.judge(Loss::Slice, floor).await?;
        self.haunt(old).await;
        self.guest.check()
    }

    /// Opens on another host while the owner goes on, with a guest that goes on, too.
    async fn try_open_beside(&mut self, host: usize, force: bool, how: &How) -> Result<Tried, String> {
        if self.hosts[self.owner].process.is_some() {
            self.traffic().await;
        }
        self.try_open(host, force, how).await
    }

    /// The former owner wakes up, if it slept, and a guest that has not noticed goes on with it.
    async fn haunt(&mut self, old: usize) {
        let Some(process) = self.hosts[old].process.as_mut() else {
            return;
        };
        process.paused.send_replace(false);
        for round in 0..self.rng.random_range(1..20_u64) {
            let (lba, data) = (Lba(round % 40), stamp::run(round % 40, 1, 1 << 40));
            let fua = round % 3 == 0;
            process.request(self.guest.untracked(), Request::Write { lba, data, fua });
            process.request(self.guest.untracked(), Request::Flush);
        }
        let linger = self.rng.random_range(0..60);
        tokio::time::sleep(Duration::from_secs(linger)).await;
        if self.rng.random_bool(0.7) {
            process.tasks.abort_all();
            self.hosts[old].process = None;
        }
    }
}
