//! Named tasks, all of them awaited at shutdown.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

/// The tasks of each runtime that [`crate::run`] started. Runtimes of tests are absent: nobody would wait for theirs.
static TRACKED: LazyLock<Mutex<Vec<(Id, Tasks)>>> = LazyLock::new(|| Mutex::new(Vec::new()));

/// Starts `future` as a task called `name`, which every log line inside it carries.
///
/// Below [`crate::run`] the task is awaited at shutdown, for as long as the grace period lasts: a task that waits for
/// something else than its own end must also watch `Context::shutdown`. A panic ends the task alone and is logged.
///
/// # Panics
/// Outside a tokio runtime.
#[allow(clippy::disallowed_methods)] // the one place where tasks start
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    let future = future.instrument(tracing::info_span!("task", task = name));
    match Tasks::of_current_runtime() {
        Some(tasks) => {
            let entry = tasks.enter(name);
            tasks.tracker.spawn(async move {
                let output = future.await;
                drop(entry);
                output
            })
        }
        None => tokio::spawn(future),
    }
}

/// The running tasks of one runtime.
#[derive(Clone)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    names: Arc<Mutex<Names>>,
}

#[derive(Default)]
struct Names {
    next: u64,
    running: BTreeMap<u64, &'static str>,
}

/// Keeps a task's name in the table for as long as the task lives, also when it is aborted or panics.
struct Entry {
    id: u64,
    names: Arc<Mutex<Names>>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .running
            .remove(&self.id);
    }
}

impl Tasks {
    /// Begins to track the runtime that `handle` belongs to.
    pub(crate) fn track(handle: &Handle) -> Self {
        let tasks = Self {
            tracker: TaskTracker::new(),
            names: Arc::default(),
        };
        let mut tracked = TRACKED.lock().unwrap_or_else(PoisonError::into_inner);
        tracked.push((handle.id(), tasks.clone()));
        tasks
    }

    fn of_current_runtime() -> Option<Self> {
        let id = Handle::current().id();
        let tracked = TRACKED.lock().unwrap_or_else(PoisonError::into_inner);
        tracked
            .iter()
            .find(|(tracked_id, _)| *tracked_id == id)
            .map(|(_, tasks)| tasks.clone())
    }

    fn enter(&self, name: &'static str) -> Entry {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let id = names.next;
        names.next += 1;
        names.running.insert(id, name);
        Entry {
            id,
            names: Arc::clone(&self.names),
        }
    }

    /// Waits until no task is left; after `grace` gives the names of those that are.
    ///
    /// # Errors
    /// The names, in the order of their start.
    pub(crate) async fn wait(&self, grace: Duration) -> Result<(), Vec<&'static str>> {
        self.tracker.close();
        match tokio::time::timeout(grace, self.tracker.wait()).await {
            Ok(()) => Ok(()),
            Err(_) => {
                let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
                Err(names.running.values().copied().collect())
            }
        }
    }

    /// Forgets the runtime that `handle` belongs to.
    pub(crate) fn untrack(handle: &Handle) {
        let mut tracked = TRACKED.lock().unwrap_or_else(PoisonError::into_inner);
        tracked.retain(|(id, _)| *id != handle.id());
    }
}

#[cfg(test)]
mod tests;
