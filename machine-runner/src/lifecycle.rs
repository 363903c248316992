//! The life cycle of a machine: which request is allowed in which state, and what follows. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// State of a machine, in the words of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Being written down.
    Creating,
    /// Written down, never started.
    Created,
    /// On its way up, from cold or from a RAM image.
    Starting,
    /// The workload runs.
    Started,
    /// The stop signal was sent.
    Stopping,
    /// Does not run.
    Stopped,
    /// Ended by itself and waits for its restart, or restarts on request.
    Restarting,
    /// The RAM is being written.
    Suspending,
    /// Does not run; its RAM waits on disk.
    Suspended,
    /// Takes a new configuration while running.
    Replacing,
    /// On its way out.
    Destroying,
    /// Gone; kept for the record.
    Destroyed,
    /// Could not be started.
    Failed,
}

/// All states, for tables and tests.
pub const STATES: [State; 13] = [
    State::Creating,
    State::Created,
    State::Starting,
    State::Started,
    State::Stopping,
    State::Stopped,
    State::Restarting,
    State::Suspending,
    State::Suspended,
    State::Replacing,
    State::Destroying,
    State::Destroyed,
    State::Failed,
];

impl State {
    /// The API's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Started => "started",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Restarting => "restarting",
            Self::Suspending => "suspending",
            Self::Suspended => "suspended",
            Self::Replacing => "replacing",
            Self::Destroying => "destroying",
            Self::Destroyed => "destroyed",
            Self::Failed => "failed",
        }
    }

    /// Reads the API's word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        STATES.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether the state does not change by itself.
    #[must_use]
    pub fn is_settled(self) -> bool {
        match self {
            Self::Created
            | Self::Started
            | Self::Stopped
            | Self::Suspended
            | Self::Destroyed
            | Self::Failed => true,
            Self::Creating
            | Self::Starting
            | Self::Stopping
            | Self::Restarting
            | Self::Suspending
            | Self::Replacing
            | Self::Destroying => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a user asks of an existing machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Run.
    Start,
    /// End the workload, keep the machine.
    Stop,
    /// Stop and start again.
    Restart,
    /// Write the RAM away.
    Suspend,
    /// Take a new configuration; `launch` is false for `skip_launch`.
    Update {
        /// Whether a machine that runs goes on running with the new configuration.
        launch: bool,
    },
    /// Destroy, by force when it runs.
    Destroy {
        /// Kill first when it runs.
        force: bool,
    },
    /// Signal the workload, run a command, list processes: something that needs a running guest.
    Talk,
}

/// What to do about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing: it is already so, or on its way.
    Already,
    /// Start from cold.
    Launch,
    /// Start from the RAM image, or from cold when it does not fit any more.
    Resume,
    /// Break the suspension off and go on running.
    CancelSuspend,
    /// Stop the guest; then `then`.
    Halt {
        /// What follows the end of the guest.
        then: Then,
    },
    /// Do not start again after all: drop the waiting restart.
    DropRestart,
    /// Drop the RAM image and count as stopped.
    DiscardRam,
    /// Write the RAM away.
    Suspend,
    /// Store the configuration; the machine then rests in [`State::Stopped`].
    Store,
    /// Remove what is left.
    Remove,
    /// Pass it to the guest.
    Pass,
}

/// What follows the end of a guest that was halted on request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Rest.
    Rest,
    /// Start again from cold.
    Start,
    /// Go.
    Destroy,
}

/// A request that does not fit the machine's state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed_precondition: {sentence}")]
pub struct Refused {
    /// HTTP status: 412, or 404 for a machine that is gone.
    pub status: u16,
    /// What is wrong and what to do.
    pub sentence: String,
}

fn refuse(sentence: impl Into<String>) -> Result<Plan, Refused> {
    Err(Refused {
        status: 412,
        sentence: sentence.into(),
    })
}

/// Decides about `request` in `state`.
///
/// # Errors
/// [`Refused`] with the status and a sentence for the user.
pub fn plan(state: State, request: Request) -> Result<Plan, Refused> {
    match state {
        State::Destroyed => match request {
            Request::Destroy { .. } => return Ok(Plan::Already),
            _ => {
                return Err(Refused {
                    status: 404,
                    sentence: "machine not found: it was destroyed".to_owned(),
                });
            }
        },
        State::Destroying => match request {
            Request::Destroy { .. } => return Ok(Plan::Already),
            _ => return refuse("machine is being destroyed"),
        },
        State::Creating => return refuse("machine is being created, wait for created first"),
        _ => {}
    }
    match request {
        Request::Start => start(state),
        Request::Stop => stop(state),
        Request::Restart => restart(state),
        Request::Suspend => match state {
            State::Started => Ok(Plan::Suspend),
            State::Suspending | State::Suspended => Ok(Plan::Already),
            other => refuse(format!(
                "machine is {other}; only a started machine can be suspended"
            )),
        },
        Request::Update { launch } => update(state, launch),
        Request::Destroy { force } => destroy(state, force),
        Request::Talk => match state {
            State::Started => Ok(Plan::Pass),
            other => refuse(format!("machine is {other}, not started; start it first")),
        },
    }
}

fn start(state: State) -> Result<Plan, Refused> {
    match state {
        State::Created | State::Stopped | State::Failed => Ok(Plan::Launch),
        State::Suspended => Ok(Plan::Resume),
        State::Suspending => Ok(Plan::CancelSuspend),
        State::Started | State::Starting | State::Restarting | State::Replacing => Ok(Plan::Already),
        State::Stopping => refuse("machine is stopping; wait for stopped, then start it"),
        State::Creating | State::Destroying | State::Destroyed => refuse("machine is not there"),
    }
}

fn stop(state: State) -> Result<Plan, Refused> {
    match state {
        State::Started | State::Starting | State::Replacing => Ok(Plan::Halt { then: Then::Rest }),
        State::Restarting => Ok(Plan::DropRestart),
        State::Suspended => Ok(Plan::DiscardRam),
        State::Stopped | State::Stopping | State::Created | State::Failed => Ok(Plan::Already),
        State::Suspending => refuse("machine is suspending; wait for suspended, then stop it"),
        State::Creating | State::Destroying | State::Destroyed => refuse("machine is not there"),
    }
}

fn restart(state: State) -> Result<Plan, Refused> {
    match state {
        State::Started => Ok(Plan::Halt { then: Then::Start }),
        State::Created | State::Stopped | State::Failed | State::Suspended => Ok(Plan::Launch),
        State::Starting | State::Restarting | State::Replacing => Ok(Plan::Already),
        State::Stopping | State::Suspending => refuse(format!(
            "machine is {state}; wait until it is settled, then restart it"
        )),
        State::Creating | State::Destroying | State::Destroyed => refuse("machine is not there"),
    }
}

fn update(state: State, launch: bool) -> Result<Plan, Refused> {
    match state {
        State::Started if launch => Ok(Plan::Halt { then: Then::Start }),
        State::Started => Ok(Plan::Halt { then: Then::Rest }),
        // A machine that does not run comes to rest as stopped, whatever it was before; its RAM image, taken
        // under the old configuration, is void.
        State::Created | State::Stopped | State::Suspended | State::Failed | State::Restarting => {
            Ok(Plan::Store)
        }
        State::Starting | State::Stopping | State::Suspending | State::Replacing => refuse(format!(
            "machine is {state}; wait until it is settled, then update it"
        )),
        State::Creating | State::Destroying | State::Destroyed => refuse("machine is not there"),
    }
}

fn destroy(state: State, force: bool) -> Result<Plan, Refused> {
    match state {
        State::Created | State::Stopped | State::Suspended | State::Failed => Ok(Plan::Remove),
        State::Restarting if force => Ok(Plan::Remove),
        State::Started | State::Starting | State::Stopping | State::Suspending | State::Replacing
            if force =>
        {
            Ok(Plan::Halt { then: Then::Destroy })
        }
        State::Started
        | State::Starting
        | State::Stopping
        | State::Suspending
        | State::Replacing
        | State::Restarting => refuse(format!(
            "unable to destroy machine: it is {state}, not stopped or suspended; stop it, or use force"
        )),
        State::Creating | State::Destroying | State::Destroyed => refuse("machine is not there"),
    }
}

#[cfg(test)]
mod tests;
