//! Threads for ciphers, hashes and codecs, so that these neither block the runtime nor run on one core only.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use tokio::sync::{Semaphore, oneshot};

type Work = Box<dyn FnOnce() + Send>;

/// A handle to the threads; clones share them. They end when the last handle is dropped.
#[derive(Clone)]
pub struct Workers(Option<Arc<Pool>>);

struct Pool {
    /// Holds as many works as there are permits: sending never blocks.
    queue: mpsc::SyncSender<Work>,
    permits: Semaphore,
    threads: usize,
}

/// Works that may wait or run, for each thread.
const QUEUE_PER_THREAD: usize = 2;

impl Workers {
    /// Starts `threads` threads, at least one.
    ///
    /// # Errors
    /// What the system says when it has no thread for us.
    pub fn start(threads: usize) -> io::Result<Self> {
        let threads = threads.max(1);
        let (queue, works) = mpsc::sync_channel::<Work>(threads * QUEUE_PER_THREAD);
        let works = Arc::new(Mutex::new(works));
        for index in 0..threads {
            let works = Arc::clone(&works);
            thread::Builder::new()
                .name(format!("codec-{index}"))
                .spawn(move || run(&works))?;
        }
        let permits = Semaphore::new(threads * QUEUE_PER_THREAD);
        Ok(Self(Some(Arc::new(Pool {
            queue,
            permits,
            threads,
        }))))
    }

    /// No threads: every work runs where it is asked for. For simulations, which must run the same way twice.
    #[must_use]
    pub fn inline() -> Self {
        Self(None)
    }

    /// Performs `work` and returns what it returns, waiting for a thread first.
    ///
    /// # Panics
    /// When `work` does.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let Some(pool) = &self.0 else { return work() };
        let permit = pool.permits.acquire().await;
        let (answer, answered) = oneshot::channel();
        let boxed: Work = Box::new(move || {
            // Nobody waits any more when the caller was dropped.
            let _unheard = answer.send(work());
        });
        assert!(
            pool.queue.try_send(boxed).is_ok(),
            "a codec thread panicked, or the queue is shorter than its permits"
        );
        let answer = answered.await;
        drop(permit);
        let Ok(answer) = answer else {
            panic!("work on a codec thread panicked")
        };
        answer
    }
}

fn run(works: &Mutex<mpsc::Receiver<Work>>) {
    super::step_back();
    loop {
        // A statement of its own, so that the lock is not held while the work runs.
        let work = works.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(work) = work else { return };
        // A panic is the caller's to see, by its lost answer; the thread lives on.
        let _caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("Workers(inline)"),
            Some(pool) => write!(f, "Workers({} threads)", pool.threads),
        }
    }
}
