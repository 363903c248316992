//! The actor's side of checks: start those that are due, take in results.

use std::sync::Arc;

use jiff::Timestamp;

use super::actor::{Actor, Command};
use crate::checks::{CheckState, CheckStatus, Tried};
use crate::lifecycle::State;
use crate::prober::try_check;

impl Actor {
    pub(super) fn start_due_checks(&mut self, now: Timestamp) {
        let runner = Arc::clone(&self.runner);
        let Some(checks) = &mut self.checks else { return };
        let boot_id = self.record.run.boot_id.clone().unwrap_or_default();
        for spec in checks.take_due(now.as_millisecond()) {
            let (queue, forwards, boot_id) = (
                self.queue.clone(),
                self.record.run.forwards.clone(),
                boot_id.clone(),
            );
            runner.task("check", async move {
                let tried = try_check(&spec, &forwards).await;
                if let Some(queue) = queue.upgrade() {
                    let _gone = queue
                        .send(Command::Tried {
                            name: spec.name,
                            tried,
                            boot_id,
                        })
                        .await;
                }
            });
        }
    }

    pub(super) async fn tried(&mut self, name: &str, tried: &Tried, boot_id: &str) {
        if self.record.run.boot_id.as_deref() != Some(boot_id) || self.record.state != State::Started {
            return;
        }
        let now = daemon::wall_clock::now();
        let verdict = self
            .checks
            .as_mut()
            .and_then(|checks| checks.tried(name, tried, now.as_millisecond()));
        let Some((state, changed)) = verdict else { return };
        let status = CheckStatus {
            name: name.to_owned(),
            status: state,
            output: tried.output.clone(),
            updated_at: now,
        };
        let known = self.record.run.checks.iter_mut().find(|known| known.name == name);
        let is_new = known.is_none();
        match known {
            Some(known) => *known = status,
            None => self.record.run.checks.push(status),
        }
        // A check that goes on as before is not worth a write to disk.
        if changed || is_new {
            let machine_id = &self.record.id;
            if state == CheckState::Critical {
                tracing::warn!(%machine_id, check = name, output = tried.output, "a check fails");
            }
            self.save_quietly(Vec::new()).await;
        }
    }
}
