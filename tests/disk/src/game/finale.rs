//! The end of a disk's life: all is calm.

use super::hosts::{How, Tried};
use super::*;

impl Game {
    /// All is calm: everything arrives, nothing is left over, and the bucket alone is enough.
    pub(crate) async fn finale(&mut self) -> Result<(), String> {
        let old = 1 - self.owner;
        self.hosts[old].process = None;
        self.common.store.set_faults(StoreFaults::CALM);
        for host in &self.hosts {
            host.faults.cease();
        }
        self.revive().await?;
        self.until("not everything arrived in the bucket", |game| {
            game.owner().view.borrow().quiet && !game.guest.waits()
        })
        .await?;
        self.common.store.settle().await;
        self.sweep().await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.until("the sweep does not end", |game| game.owner().view.borrow().quiet)
            .await?;
        self.audit().await?;
        let known: BTreeSet<ObjectName> = self.owner().view.borrow().objects.iter().copied().collect();
        let there = self.bare().names().await?;
        if let Some(name) = there.difference(&known).next() {
            return Err(format!("{name:?} is in the bucket and nobody needs it"));
        }
        if let Some(name) = known.difference(&there).next() {
            return Err(format!("{name:?} is known and not in the bucket"));
        }
        let view = self.owner().view.borrow().clone();
        let garbage = view.stored_blocks - view.live_blocks;
        let bound = view.stored_blocks * self.config.gc.garbage_permille / 1000;
        let stubborn = view.stored_blocks * (1000 - self.config.gc.live_permille_max) / 1000;
        if garbage > bound.max(stubborn) + self.config.gc.blocks_max {
            return Err(format!("{garbage} of {} blocks are garbage", view.stored_blocks));
        }
        self.hosts[self.owner].process = None;
        let arrived = self.guest.arrived();
        self.lose(self.owner, Loss::Slice);
        let opened = loop {
            if let Tried::Opened(opened) = self.try_open(self.owner, true, &How::AS_IT_IS).await? {
                break opened;
            }
        };
        self.begin(self.owner, *opened);
        self.judge(Loss::Slice, arrived).await?;
        Ok(())
    }

    /// Ends the owner's process, whatever it is doing.
    pub(crate) fn leave(&mut self) {
        for host in &mut self.hosts {
            host.process = None;
        }
    }

    /// The disk was orphaned and is not deleted after all: it is opened where nothing but the bucket is left of it.
    pub(crate) async fn come_back(&mut self) -> Result<(), String> {
        self.leave();
        self.lose(self.owner, Loss::Slice);
        self.reopen(Loss::Slice).await.map(drop)
    }

    /// The disk is deleted: who has it is to find that out.
    pub(crate) fn orphan(&mut self) {
        for host in self.hosts.iter().filter_map(|host| host.process.as_ref()) {
            self.guest.may_stop(&host.name);
            self.guest.retire(&host.name, false);
        }
        self.guest.give_up();
    }
}
