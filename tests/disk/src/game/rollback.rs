//! The disk becomes what it was at a snapshot.

use super::hosts::{How, Tried};
use super::*;

impl Game {
    pub(super) async fn roll_back(&mut self) -> Result<(), String> {
        self.audit().await?;
        let names = self.guest.snapshot_names();
        if names.is_empty() {
            return Ok(());
        }
        let name = names[self.rng.random_range(0..names.len())].clone();
        let Some(then) = self.guest.snapshot_image(&name) else {
            return Ok(());
        };
        self.guest.check()?;
        self.common.world.trace().event(format_args!("back to {name}"));
        self.hosts[self.owner].process = None;
        if self.rng.random_bool(0.5) {
            self.lose(self.owner, Loss::Power);
        }
        self.guest.give_up();
        let mut how = How {
            discard_damaged: false,
            roll_back_to: Some(name),
        };
        self.common.store.set_faults(if self.rng.random_bool(0.5) {
            StoreFaults::CALM
        } else {
            StoreFaults::ROUGH
        });
        let opened = loop {
            match self.try_open(self.owner, true, &how).await? {
                Tried::Opened(opened) => break *opened,
                Tried::Died => self.lose(self.owner, Loss::Power),
                Tried::Damaged => how.discard_damaged = true,
            }
        };
        self.begin(self.owner, opened);
        // A snapshot that was under way is of the time before.
        self.check_head().await?;
        let (now, _gave_up) = self.look().await?;
        if now != then {
            return Err(format!(
                "the disk is not as the snapshot was: {now:?}, then {then:?}"
            ));
        }
        self.guest.go_back(then);
        Ok(())
    }
}
