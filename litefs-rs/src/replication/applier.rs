//! Transactions of the primary's on their way into one database: each database has its own, so that a reader of one that does
//! not leave holds up no other.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use ltx::Pos;
use tokio::time::Instant;

use crate::{
    db::{ApplyError, Changed, Database, Incoming, files::FileKind, locks::Owner},
    halt::HALTED,
    store::{Slot, State, Store, chain},
};

/// Transactions that wait for one database; beyond that the stream waits.
const WAITING_MAX: usize = 4096;
/// A longer log, in bytes, is put into the database before it grows on: readers are kept out for a moment.
const LOG_BYTES_MAX: u64 = 64 << 20;
/// How long that moment may be: SQLite's patience is ten seconds.
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// Who we are among the holders of locks: the kernel names none so.
pub const OURSELVES: Owner = Owner(u64::MAX);

/// One database's transactions.
#[derive(Debug)]
pub struct Applier {
    waiting: mpsc::SyncSender<Incoming>,
    progress: Arc<Progress>,
}

#[derive(Debug)]
struct Progress {
    /// Behind the last transaction that waits; nothing when none does.
    last: Mutex<(usize, Pos)>,
    failed: AtomicBool,
}

impl Applier {
    /// Begins.
    ///
    /// # Errors
    /// A thread was refused.
    pub fn start(store: Arc<Store>, slot: Arc<Slot>, stop: Arc<AtomicBool>) -> io::Result<Self> {
        let (waiting, transactions) = mpsc::sync_channel(WAITING_MAX);
        let progress = Arc::new(Progress {
            last: Mutex::new((0, Pos::ZERO)),
            failed: AtomicBool::new(false),
        });
        let shared = Arc::clone(&progress);
        thread::Builder::new()
            .name("apply".to_owned())
            .spawn(move || work(&store, &slot, &stop, &transactions, &shared))?;
        Ok(Self { waiting, progress })
    }

    /// Takes a transaction over. It waits its turn.
    pub fn push(&self, incoming: Incoming) {
        {
            let mut last = self.progress.last.lock().unwrap_or_else(PoisonError::into_inner);
            *last = (last.0 + 1, incoming.pos());
        }
        if self.waiting.send(incoming).is_err() {
            self.progress.failed.store(true, Ordering::Release);
        }
    }

    /// Returns what tells whether nothing waits any more.
    pub fn idle(&self) -> impl Fn() -> bool + Send + use<> {
        let progress = Arc::clone(&self.progress);
        move || progress.last.lock().unwrap_or_else(PoisonError::into_inner).0 == 0
    }

    /// Returns where the database will be when nothing waits any more; nothing when that is so.
    #[must_use]
    pub fn ahead(&self) -> Option<Pos> {
        let last = self.progress.last.lock().unwrap_or_else(PoisonError::into_inner);
        (last.0 > 0).then_some(last.1)
    }

    /// Tells whether a transaction could not be applied: then nothing more is, and the database is to be fetched anew.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.progress.failed.load(Ordering::Acquire)
    }
}

fn work(
    store: &Store,
    slot: &Slot,
    stop: &AtomicBool,
    transactions: &mpsc::Receiver<Incoming>,
    progress: &Progress,
) {
    let mut drain = Drain::default();
    for incoming in transactions {
        let (disk, failed) = (&store.node().disk, progress.failed.load(Ordering::Acquire));
        if failed || stop.load(Ordering::Acquire) {
            let _swept_at_the_next_start = incoming.discard(&**disk);
        } else if let Err(error) = apply(store, slot, stop, incoming, &mut drain) {
            tracing::error!(db = %slot.name(), error = %chain(&error), "transaction was not applied, the database is fetched anew");
            progress.failed.store(true, Ordering::Release);
        }
        let mut last = progress.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.0 -= 1;
    }
}

/// When readers of a log are kept out for a moment, so that it can be put into the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    at_bytes: u64,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            at_bytes: LOG_BYTES_MAX,
        }
    }
}

/// How a transaction gets into a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Into its file, which nobody reads.
    Whole,
    /// Into its log.
    Log,
    /// It is there already.
    Nothing,
    /// Not at all: it is not wanted any more.
    No,
}

/// Who applies a transaction.
#[expect(missing_debug_implementations, reason = "a function")]
#[derive(Clone, Copy)]
pub enum Hand<'a> {
    /// This node, what its primary sends.
    Ours,
    /// A primary, what the holder of its write lock brings; asked whether that is still so.
    Halted(&'a dyn Fn() -> bool),
}

impl Hand<'_> {
    fn owner(self) -> Owner {
        match self {
            Self::Ours => OURSELVES,
            Self::Halted(_) => HALTED,
        }
    }

    fn wants(self) -> bool {
        match self {
            Self::Ours => true,
            Self::Halted(lasts) => lasts(),
        }
    }

    /// What one made oneself and brought to the primary comes back; what was brought and not answered is brought again.
    fn has(self, store: &Store, database: &Database, incoming: &Incoming) -> bool {
        match self {
            Self::Ours => database.has(incoming, store.node().id),
            Self::Halted(_) => database.pos() == incoming.pos(),
        }
    }

    fn lets_go(self, database: &mut Database) {
        database.unlock_whole(self.owner());
        if matches!(self, Self::Halted(_)) {
            // Nobody came in between: writers are still kept out.
            let _held = database.hold(HALTED);
        }
    }
}

/// Applies one transaction as soon as nobody stands in the way: with a log, readers do not. When the node stops before it is left
/// out.
///
/// * `drain`: when readers of a log are kept out for a moment.
///
/// # Errors
/// It cannot be applied.
pub fn apply(
    store: &Store,
    slot: &Slot,
    stop: &AtomicBool,
    incoming: Incoming,
    drain: &mut Drain,
) -> Result<(), ApplyError> {
    let give_up = || stop.load(Ordering::Acquire) || store.is_stopped();
    match apply_as(Hand::Ours, store, slot, &give_up, incoming, drain) {
        Err(ApplyError::GivenUp) => Ok(()),
        applied => applied,
    }
}

/// As [`apply`], for whoever does so.
///
/// * `give_up`: asked every now and then, whether to wait on.
///
/// # Errors
/// It cannot be applied, or was given up.
pub fn apply_as(
    hand: Hand<'_>,
    store: &Store,
    slot: &Slot,
    give_up: &dyn Fn() -> bool,
    incoming: Incoming,
    drain: &mut Drain,
) -> Result<(), ApplyError> {
    let shares_index = store.kernel().is_some_and(|kernel| kernel.shares_index());
    let mut drained_since = None;
    let mut drains = || {
        let since = *drained_since.get_or_insert_with(Instant::now);
        since.elapsed() < DRAIN_MAX
    };
    let owner = hand.owner();
    let locked = |state: &mut State| match state {
        _ if !hand.wants() => Some(Way::No),
        State::Serving(database) if hand.has(store, database, &incoming) => Some(Way::Nothing),
        State::Serving(database) => {
            if database.lock_whole(owner).is_ok() {
                return Some(Way::Whole);
            }
            if database.log_bytes() > drain.at_bytes && drains() {
                database.drain(owner);
                return None;
            }
            // Somebody reads: what he sees stays where it is, if the database has a log.
            let in_log = shares_index && database.takes_in_log(&incoming) && database.lock_log(owner).is_ok();
            in_log.then_some(Way::Log)
        }
        State::Broken(_) | State::Damaged(_) => Some(Way::Whole),
    };
    let disk = &store.node().disk;
    let Some((mut state, way)) = slot.lane().take_when(locked, give_up) else {
        if let State::Serving(database) = &mut *slot.lane().take() {
            database.stop_draining(owner);
        }
        incoming.discard(&**disk)?;
        return Err(ApplyError::GivenUp);
    };
    match way {
        Way::Whole | Way::Log => {}
        Way::Nothing => return incoming.discard(&**disk).map_err(ApplyError::Disk),
        Way::No => {
            incoming.discard(&**disk)?;
            return Err(ApplyError::GivenUp);
        }
    }
    if way == Way::Log {
        return append(hand, store, slot, &mut state, &incoming, drain);
    }
    if !matches!(&*state, State::Serving(_)) && incoming.header().is_snapshot() {
        make_room(store, slot, &mut state)?;
        if let State::Serving(database) = &mut *state {
            // Nobody can be there: it was not served.
            let _unheld = database.lock_whole(owner);
        }
    }
    if matches!(&*state, State::Serving(database) if database.is_unsettled()) {
        // Begun when this node was primary, and its writer is gone.
        store.take_back(slot, &mut state);
    }
    let State::Serving(database) = &mut *state else {
        return Err(ApplyError::NotServed);
    };
    let existed = slot.path(FileKind::Database).exists();
    slot.set_renewing(!shares_index);
    *drain = Drain::default();
    let applied = database.apply(incoming);
    if let (Ok(changed), Some(kernel)) = (&applied, store.kernel()) {
        kernel.changed(slot, changed);
    }
    slot.set_renewing(false);
    hand.lets_go(database);
    store.noted(slot, &state);
    slot.lane().changed();
    match applied {
        Ok(changed) => {
            if let State::Serving(database) = &mut *state
                && !changed.dropped
                && let Err(error) = database.sync(FileKind::Database)
            {
                store.reopen(slot, &mut state);
                return Err(ApplyError::Log(error));
            }
            drop(state);
            if let Some(kernel) = store.kernel().filter(|_| !existed) {
                kernel.names_changed(slot.name());
            }
            Ok(())
        }
        Err(error) => {
            if matches!(
                error,
                ApplyError::Disk(_) | ApplyError::Ltx(_) | ApplyError::Log(_)
            ) {
                store.reopen(slot, &mut state);
            }
            Err(error)
        }
    }
}

/// Applies a transaction by appending it to the log, which is locked.
fn append(
    hand: Hand<'_>,
    store: &Store,
    slot: &Slot,
    state: &mut State,
    incoming: &Incoming,
    drain: &mut Drain,
) -> Result<(), ApplyError> {
    let State::Serving(database) = state else {
        return Err(ApplyError::NotServed);
    };
    let forget = |changed: &Changed| {
        if let Some(kernel) = store.kernel() {
            kernel.changed(slot, changed);
        }
    };
    if database.log_bytes() > drain.at_bytes {
        // Somebody stays. Others are not kept out again before there is twice as much.
        drain.at_bytes = 2 * database.log_bytes();
    }
    let appended = database.append(incoming, &forget);
    hand.lets_go(database);
    store.noted(slot, state);
    slot.lane().changed();
    appended.inspect_err(|_| store.reopen(slot, state))
}

/// Sets what a database was aside that could not be served: the primary sent it whole.
fn make_room(store: &Store, slot: &Slot, state: &mut State) -> io::Result<()> {
    let disk = &store.node().disk;
    for entry in disk.list(slot.directory())? {
        if !entry.is_dir {
            disk.remove_file("apply", &slot.directory().join(entry.name))?;
        }
    }
    let ltx = slot.directory().join("ltx");
    if disk.stat(&ltx)?.is_some() {
        for entry in disk.list(&ltx)? {
            if entry.name.parse::<ltx::FileName>().is_ok() {
                disk.remove_file("apply", &ltx.join(entry.name))?;
            }
        }
    }
    store.reopen(slot, state);
    Ok(())
}
