//! Decides what may happen to a volume: (record, command) → plan or refusal. Pure.

use std::path::{Path, PathBuf};

use crate::error::Refusal;
use crate::volume::{FsType, SizeGb, Volume, VolumeState};

#[cfg(test)]
pub(crate) mod tests;

/// What a client asks of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make it larger.
    Extend {
        /// The size asked for.
        to: SizeGb,
        /// The largest size the operator allows.
        max: SizeGb,
    },
    /// Change its settings.
    Update,
    /// Pin a point in time.
    Snapshot,
    /// Use it as the source of a new volume.
    Fork,
    /// Give it up, so that another node may take it.
    Drain,
    /// Delete it, recoverably.
    Destroy,
    /// Bring it back.
    Recover,
    /// Remove its bytes for good.
    Purge,
    /// Give it to a machine.
    Attach {
        /// Which.
        machine_id: String,
    },
    /// Take it from a machine.
    Detach {
        /// Which.
        machine_id: String,
        /// The generation that the machine was given.
        generation: u64,
    },
    /// Mount it on the host.
    Mount {
        /// Where.
        path: PathBuf,
    },
    /// Take it from the host.
    Unmount,
    /// Hear about its file system.
    Report {
        /// From which machine.
        machine_id: String,
        /// The generation that the machine was given.
        generation: u64,
    },
    /// Tell its holder how to open it.
    Open,
}

/// What to do about a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Do it.
    Go,
    /// It is so already: answer as if it had been done now.
    Already,
    /// Give up the operation that is filling the volume; its undo removes the volume.
    CancelCreation,
}

/// Decides.
///
/// # Errors
/// The [`Refusal`] to answer with. 404 for a volume that is gone, 409 for one that is busy, 412 for one whose state or
/// holder excludes the command until somebody changes that, 422 for values that cannot be honoured.
pub fn plan(volume: &Volume, command: &Command) -> Result<Plan, Refusal> {
    if volume.state == VolumeState::Destroyed {
        return Err(gone(volume));
    }
    match command {
        Command::Extend { to, max } => extend(volume, *to, *max),
        Command::Update => update(volume),
        Command::Snapshot | Command::Fork => ready(volume, &[VolumeState::Created]).map(|()| Plan::Go),
        Command::Drain => drain(volume),
        Command::Destroy => destroy(volume),
        Command::Recover => recover(volume),
        Command::Purge => match volume.state {
            VolumeState::PendingDestroy => Ok(Plan::Go),
            VolumeState::Destroying => Ok(Plan::Already),
            _ => Err(busy(volume)),
        },
        Command::Attach { machine_id } => attach(volume, machine_id),
        Command::Detach {
            machine_id,
            generation,
        } => detach(volume, machine_id, *generation),
        Command::Mount { path } => mount(volume, path),
        Command::Unmount => unmount(volume),
        Command::Report {
            machine_id,
            generation,
        } => report(volume, machine_id, *generation),
        Command::Open => match &volume.attached_machine_id {
            Some(_) => Ok(Plan::Go),
            None => Err(Refusal::missing(format!(
                "volume {} is not attached to any machine; attach it first",
                volume.id
            ))),
        },
    }
}

/// Says that a volume does not exist (any more), and why if it never came to be.
pub fn gone(volume: &Volume) -> Refusal {
    if volume.left_at.is_some() {
        let id = &volume.id;
        return Refusal::missing(format!(
            "volume not found: {id} is not on this node any more; `hangar volumes claim {id}` takes it up from the bucket"
        ));
    }
    match &volume.failure {
        Some(why) => Refusal::missing(format!("volume not found: {} was not created: {why}", volume.id)),
        None => Refusal::missing("volume not found"),
    }
}

fn extend(volume: &Volume, to: SizeGb, max: SizeGb) -> Result<Plan, Refusal> {
    ready(volume, &[VolumeState::Created])?;
    let (id, from, to_gb) = (&volume.id, volume.size.get(), to.get());
    if to > max {
        return Err(Refusal::invalid(format!(
            "size_gb must be at most {} on this host; got {to_gb}",
            max.get()
        )));
    }
    match to.cmp(&volume.size) {
        std::cmp::Ordering::Less => Err(Refusal::invalid(format!(
            "volume {id} has {from} GB and cannot be shrunk to {to_gb} GB; create a smaller one and copy the files"
        ))),
        std::cmp::Ordering::Equal => Err(Refusal::invalid(format!(
            "volume {id} has {from} GB already; ask for more than that to extend it"
        ))),
        std::cmp::Ordering::Greater => Ok(Plan::Go),
    }
}

fn update(volume: &Volume) -> Result<Plan, Refusal> {
    match volume.state {
        VolumeState::SchedulingDestroy | VolumeState::PendingDestroy | VolumeState::Destroying => {
            Err(deleted(volume))
        }
        // The bucket has been told of it for the last time.
        VolumeState::Draining => Err(busy(volume)),
        VolumeState::Creating
        | VolumeState::Created
        | VolumeState::Extending
        | VolumeState::Restoring
        | VolumeState::Hydrating
        | VolumeState::Recovering
        | VolumeState::Destroyed => Ok(Plan::Go),
    }
}

fn drain(volume: &Volume) -> Result<Plan, Refusal> {
    if let Some(held) = held(volume) {
        return Err(Refusal::precondition(held));
    }
    match volume.state {
        VolumeState::Draining => Ok(Plan::Already),
        _ => ready(volume, &[VolumeState::Created]).map(|()| Plan::Go),
    }
}

fn destroy(volume: &Volume) -> Result<Plan, Refusal> {
    if let Some(held) = held(volume) {
        return Err(Refusal::precondition(held));
    }
    match volume.state {
        VolumeState::Created => Ok(Plan::Go),
        VolumeState::Creating | VolumeState::Restoring | VolumeState::Hydrating => Ok(Plan::CancelCreation),
        VolumeState::SchedulingDestroy | VolumeState::PendingDestroy | VolumeState::Destroying => {
            Ok(Plan::Already)
        }
        VolumeState::Extending | VolumeState::Draining | VolumeState::Recovering => Err(busy(volume)),
        VolumeState::Destroyed => Err(gone(volume)),
    }
}

fn recover(volume: &Volume) -> Result<Plan, Refusal> {
    match volume.state {
        VolumeState::PendingDestroy => Ok(Plan::Go),
        VolumeState::Created | VolumeState::Recovering => Ok(Plan::Already),
        VolumeState::SchedulingDestroy => Err(busy(volume)),
        VolumeState::Destroying => Err(Refusal::precondition(format!(
            "volume {} is being removed for good; restore one of its snapshots instead",
            volume.id
        ))),
        VolumeState::Creating
        | VolumeState::Restoring
        | VolumeState::Hydrating
        | VolumeState::Extending
        | VolumeState::Draining => Err(Refusal::precondition(format!(
            "volume {} is not deleted; there is nothing to recover",
            volume.id
        ))),
        VolumeState::Destroyed => Err(gone(volume)),
    }
}

fn attach(volume: &Volume, machine_id: &str) -> Result<Plan, Refusal> {
    match &volume.attached_machine_id {
        Some(holder) if holder == machine_id => Ok(Plan::Already),
        Some(_) => Err(Refusal::precondition(held(volume).unwrap_or_default())),
        None => ready(volume, &[VolumeState::Created, VolumeState::Extending]).map(|()| Plan::Go),
    }
}

/// Says who has a volume, and how it becomes free; nothing when nobody has it.
fn held(volume: &Volume) -> Option<String> {
    let id = &volume.id;
    match (&volume.host_path, &volume.attached_machine_id) {
        (Some(path), _) => Some(format!(
            "volume {id} is mounted on this host at {}; detach it there first",
            path.display()
        )),
        (None, Some(machine)) => Some(format!(
            "volume {id} is already attached to machine {machine}; destroy that machine first, or use another volume"
        )),
        (None, None) => None,
    }
}

fn mount(volume: &Volume, path: &Path) -> Result<Plan, Refusal> {
    if volume.host_path.as_deref() == Some(path) {
        return Ok(Plan::Already);
    }
    if let Some(held) = held(volume) {
        return Err(Refusal::precondition(held));
    }
    if volume.fstype == FsType::Raw {
        return Err(Refusal::invalid(format!(
            "volume {} has no file system (fstype raw) that could be mounted",
            volume.id
        )));
    }
    ready(volume, &[VolumeState::Created]).map(|()| Plan::Go)
}

fn unmount(volume: &Volume) -> Result<Plan, Refusal> {
    match (&volume.host_path, &volume.attached_machine_id) {
        (Some(_), _) if volume.state == VolumeState::Created => Ok(Plan::Go),
        (Some(_), _) => Err(busy(volume)),
        (None, Some(_)) => Err(Refusal::precondition(held(volume).unwrap_or_default())),
        (None, None) => Ok(Plan::Already),
    }
}

fn detach(volume: &Volume, machine_id: &str, generation: u64) -> Result<Plan, Refusal> {
    match &volume.attached_machine_id {
        None if generation <= volume.generation => Ok(Plan::Already),
        Some(holder) if holder == machine_id && generation == volume.generation => Ok(Plan::Go),
        Some(_) | None => Err(stale(volume, machine_id, generation)),
    }
}

fn report(volume: &Volume, machine_id: &str, generation: u64) -> Result<Plan, Refusal> {
    match &volume.attached_machine_id {
        Some(holder) if holder == machine_id && generation == volume.generation => Ok(Plan::Go),
        Some(_) | None => Err(stale(volume, machine_id, generation)),
    }
}

fn stale(volume: &Volume, machine_id: &str, generation: u64) -> Refusal {
    let holder = match &volume.attached_machine_id {
        Some(holder) => format!("machine {holder}"),
        None => "no machine".to_owned(),
    };
    Refusal::conflict(format!(
        "volume {} is held by {holder} in generation {}; machine {machine_id} spoke of generation {generation}: \
         attach it again and use the generation of that answer",
        volume.id, volume.generation
    ))
}

fn ready(volume: &Volume, allowed: &[VolumeState]) -> Result<(), Refusal> {
    if allowed.contains(&volume.state) {
        return Ok(());
    }
    Err(match volume.state {
        VolumeState::SchedulingDestroy | VolumeState::PendingDestroy | VolumeState::Destroying => {
            deleted(volume)
        }
        VolumeState::Destroyed => gone(volume),
        VolumeState::Creating
        | VolumeState::Created
        | VolumeState::Extending
        | VolumeState::Restoring
        | VolumeState::Hydrating
        | VolumeState::Draining
        | VolumeState::Recovering => busy(volume),
    })
}

fn busy(volume: &Volume) -> Refusal {
    Refusal::conflict(format!(
        "volume {} is {}; try again when its state is created",
        volume.id,
        volume.state.name()
    ))
}

fn deleted(volume: &Volume) -> Refusal {
    Refusal::precondition(format!(
        "volume {} is deleted (state {}); recover it first",
        volume.id,
        volume.state.name()
    ))
}
