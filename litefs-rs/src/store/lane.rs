//! One after the other, on whatever thread: what is done to one thing of which there are many.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError, mpsc},
    thread,
    time::Duration,
};

/// A worker that has nothing to do for so long ends.
const IDLE: Duration = Duration::from_secs(5);

type Job<T> = Box<dyn FnOnce(&mut T) + Send>;

/// Something that is used by one thread at a time.
///
/// Threads that serve everybody use it at once when it is free, and leave what would make them wait to a worker of its own. So
/// one thing that is slow holds up nobody who wants another. Workers are there while there is work.
pub struct Lane<T> {
    state: Mutex<T>,
    /// Told of every change that somebody may wait for.
    changed: Condvar,
    /// Takes jobs while a worker is there. Never more than requests that wait: the kernel bounds those.
    worker: Mutex<Option<mpsc::Sender<Job<T>>>>,
}

impl<T: Send + 'static> Lane<T> {
    /// Makes a lane.
    pub fn new(state: T) -> Self {
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            worker: Mutex::new(None),
        }
    }

    /// Takes it, if it is free.
    pub fn try_take(&self) -> Option<MutexGuard<'_, T>> {
        match self.state.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Takes it, and waits for it. For threads that may: never for one that serves everybody.
    pub fn take(&self) -> MutexGuard<'_, T> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes it as soon as `ready` gives something, and asks again whenever [`changed`](Self::changed) was called.
    ///
    /// * `give_up`: asked every now and then, whether to go on; then nothing comes.
    pub fn take_when<R>(
        &self,
        mut ready: impl FnMut(&mut T) -> Option<R>,
        give_up: impl Fn() -> bool,
    ) -> Option<(MutexGuard<'_, T>, R)> {
        const LOOK: Duration = Duration::from_millis(200);
        let mut guard = self.take();
        loop {
            if let Some(result) = ready(&mut guard) {
                return Some((guard, result));
            }
            if give_up() {
                return None;
            }
            let waited = self.changed.wait_timeout(guard, LOOK);
            guard = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Wakes who waits in [`take_when`](Self::take_when).
    pub fn changed(&self) {
        self.changed.notify_all();
    }

    /// Does a job when it is its turn, on the worker.
    pub fn queue(self: &Arc<Self>, job: impl FnOnce(&mut T) + Send + 'static) {
        let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        let job: Job<T> = Box::new(job);
        let job = match &*worker {
            Some(sender) => match sender.send(job) {
                Ok(()) => return,
                Err(mpsc::SendError(job)) => job,
            },
            None => job,
        };
        let (sender, jobs) = mpsc::channel();
        let lane = Arc::clone(self);
        let thread = thread::Builder::new()
            .name("database".to_owned())
            .spawn(move || lane.work(&jobs));
        match (sender.send(job), thread) {
            (Ok(()), Ok(_)) => *worker = Some(sender),
            // Without a thread there is this one.
            (Ok(()), Err(_)) | (Err(_), _) => {
                drop(worker);
                tracing::error!("a thread for a database was refused");
            }
        }
    }

    fn work(&self, jobs: &mpsc::Receiver<Job<T>>) {
        loop {
            match jobs.recv_timeout(IDLE) {
                Ok(job) => job(&mut self.take()),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    // Under this lock nobody sends.
                    let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
                    match jobs.try_recv() {
                        Ok(job) => {
                            drop(worker);
                            job(&mut self.take());
                        }
                        Err(_) => {
                            *worker = None;
                            return;
                        }
                    }
                }
            }
        }
    }
}

impl<T> fmt::Debug for Lane<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
