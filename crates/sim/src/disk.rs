//! A disk in memory that loses power.

use std::io::{Error, ErrorKind, Result};
use std::ops::Range;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crashsafe::model::{Inode, Model, Tree};
use crashsafe::{Disk, DiskFile, Entry, OpenOptions, Space, Stat};

use crate::{Rng, Trace};

/// A disk in memory, by the durability rules of [`crashsafe::model`]. Clones are the same disk.
///
/// Paths begin at the disk's own root. Calls that change something are its events, numbered from 1: power can be cut
/// after any of them, and then every call fails until [`reboot`](Self::reboot).
#[derive(Debug, Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    model: Model,
    total_bytes: u64,
    reflink: bool,
    /// +1 at each boot; files opened before are dead.
    boot: u64,
    powered: bool,
    /// Events that may still happen before the power goes.
    fuse: Option<u64>,
    events: Vec<String>,
    faults: Vec<Fault>,
    rng: Rng,
    trace: Trace,
}

#[derive(Debug)]
struct Fault {
    event: String,
    kind: ErrorKind,
}

impl SimDisk {
    /// Creates an empty disk of `total_bytes` with reflinks.
    pub fn new(total_bytes: u64, rng: Rng, trace: Trace) -> Self {
        let state = State {
            model: Model::default(),
            total_bytes,
            reflink: true,
            boot: 0,
            powered: true,
            fuse: None,
            events: Vec::new(),
            faults: Vec::new(),
            rng,
            trace,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Makes the disk one that knows no reflink.
    #[must_use]
    pub fn without_reflink(self) -> Self {
        self.lock().reflink = false;
        self
    }

    /// Returns the names of all events since the disk was made, `label:call` each.
    pub fn events(&self) -> Vec<String> {
        self.lock().events.clone()
    }

    /// Lets `events` more events happen, then cuts the power: the next one fails, and everything after it.
    pub fn cut_power_after(&self, events: u64) {
        self.lock().fuse = Some(events);
    }

    /// Cuts the power now.
    pub fn cut_power(&self) {
        self.lock().cut_power();
    }

    /// Tells whether the power is on.
    pub fn is_powered(&self) -> bool {
        self.lock().powered
    }

    /// Turns the power on again, after cutting it if it was on. What was not durable has survived by luck or not at all;
    /// files that were open are dead; a fuse that has not blown is gone.
    pub fn reboot(&self) {
        let mut state = self.lock();
        state.cut_power();
        let State { model, rng, .. } = &mut *state;
        *model = Model::new(&model.crash(rng));
        state.fuse = None;
        state.boot += 1;
        state.powered = true;
        let boot = state.boot;
        state.trace.event(format_args!("disk boot {boot}"));
    }

    /// Makes the next event of that name (`"pool:create:sync_data"`) fail. A sync that fails loses some of what it should
    /// have saved, and no later one saves it; other calls fail without effect.
    pub fn fail_next(&self, event: impl Into<String>, kind: ErrorKind) {
        self.lock().faults.push(Fault {
            event: event.into(),
            kind,
        });
    }

    /// Changes bytes of a file behind everyone's back, durably, as a failing disk does.
    ///
    /// # Errors
    /// `NotFound`; `UnexpectedEof` when the file ends before `offset`.
    pub fn damage(&self, path: &Path, offset: u64) -> Result<()> {
        let mut state = self.lock();
        let inode = state.model.open(path, OpenOptions::READ)?;
        let mut byte = [0];
        if state.model.read_at(inode, &mut byte, offset) == 0 {
            return Err(Error::new(
                ErrorKind::UnexpectedEof,
                format!("{} ends before {offset}", path.display()),
            ));
        }
        state.model.write_at(inode, &[!byte[0]], offset);
        state.model.sync_file(inode);
        Ok(())
    }

    /// Returns all files as programs see them.
    pub fn seen(&self) -> Tree {
        self.lock().model.seen()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, call: impl FnOnce(&Model) -> Result<T>) -> Result<T> {
        let state = self.lock();
        state.check_power()?;
        call(&state.model)
    }
}

impl State {
    fn cut_power(&mut self) {
        if self.powered {
            self.powered = false;
            self.trace.event(format_args!("disk power cut"));
        }
    }

    fn check_power(&self) -> Result<()> {
        if self.powered {
            Ok(())
        } else {
            Err(Error::other("the power is off"))
        }
    }

    /// Counts an event that is about to happen, unless the power goes or a fault strikes.
    fn begin(&mut self, label: &str, call: &str, detail: std::fmt::Arguments<'_>) -> Result<()> {
        self.check_power()?;
        match &mut self.fuse {
            Some(0) => {
                self.fuse = None;
                self.cut_power();
                return self.check_power();
            }
            Some(left) => *left -= 1,
            None => {}
        }
        let event = format!("{label}:{call}");
        self.trace.event(format_args!("disk {event} {detail}"));
        let fault = self
            .faults
            .iter()
            .position(|fault| fault.event == event)
            .map(|at| self.faults.remove(at));
        self.events.push(event);
        match fault {
            Some(Fault { event, kind }) => Err(Error::new(kind, format!("injected into {event}"))),
            None => Ok(()),
        }
    }

    fn free_bytes(&self) -> u64 {
        self.total_bytes.saturating_sub(self.model.allocated_bytes())
    }

    fn check_room(&self, inode: Inode, offset: u64, len: u64) -> Result<()> {
        let missing = self.model.missing_bytes(inode, offset, len);
        if missing <= self.free_bytes() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::StorageFull,
            format!("{missing} bytes wanted, {} free", self.free_bytes()),
        ))
    }
}

impl Disk for SimDisk {
    fn open(&self, label: &'static str, path: &Path, options: OpenOptions) -> Result<Box<dyn DiskFile>> {
        let mut state = self.lock();
        state.check_power()?;
        if options.write {
            state.begin(label, "open", format_args!("{}", path.display()))?;
        }
        let inode = state.model.open(path, options)?;
        let boot = state.boot;
        Ok(Box::new(SimFile {
            disk: self.clone(),
            inode,
            boot,
            label,
            options,
        }))
    }

    fn create_dir_all(&self, label: &'static str, path: &Path) -> Result<()> {
        let mut state = self.lock();
        state.begin(label, "create_dir_all", format_args!("{}", path.display()))?;
        state.model.create_dir_all(path)
    }

    fn remove_file(&self, label: &'static str, path: &Path) -> Result<()> {
        let mut state = self.lock();
        state.begin(label, "remove_file", format_args!("{}", path.display()))?;
        state.model.remove_file(path)
    }

    fn remove_dir_all(&self, label: &'static str, path: &Path) -> Result<()> {
        let mut state = self.lock();
        state.begin(label, "remove_dir_all", format_args!("{}", path.display()))?;
        state.model.remove_dir_all(path)
    }

    fn rename(&self, label: &'static str, from: &Path, to: &Path) -> Result<()> {
        let mut state = self.lock();
        state.begin(
            label,
            "rename",
            format_args!("{} {}", from.display(), to.display()),
        )?;
        state.model.rename(from, to)
    }

    fn sync_dir(&self, label: &'static str, path: &Path) -> Result<()> {
        let mut state = self.lock();
        state.begin(label, "sync_dir", format_args!("{}", path.display()))?;
        state.model.sync_dir(path)
    }

    fn reflink(&self, label: &'static str, from: &Path, to: &Path) -> Result<()> {
        let mut state = self.lock();
        state.begin(
            label,
            "reflink",
            format_args!("{} {}", from.display(), to.display()),
        )?;
        if !state.reflink {
            return Err(Error::new(ErrorKind::Unsupported, "this disk has no reflinks"));
        }
        state.model.reflink(from, to)
    }

    fn list(&self, path: &Path) -> Result<Vec<Entry>> {
        self.read(|model| model.list(path))
    }

    fn stat(&self, path: &Path) -> Result<Option<Stat>> {
        self.read(|model| model.stat(path))
    }

    fn space(&self, _: &Path) -> Result<Space> {
        let state = self.lock();
        state.check_power()?;
        Ok(Space {
            total_bytes: state.total_bytes,
            free_bytes: state.free_bytes(),
        })
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: Inode,
    boot: u64,
    label: &'static str,
    options: OpenOptions,
}

impl SimFile {
    fn alive(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.disk.lock();
        state.check_power()?;
        if state.boot == self.boot {
            return Ok(state);
        }
        Err(Error::other("the file was opened before the power went"))
    }

    fn read(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.alive()?;
        if self.options.read {
            Ok(state)
        } else {
            Err(not_open_for("reading"))
        }
    }

    fn change(&self, call: &str, detail: std::fmt::Arguments<'_>) -> Result<MutexGuard<'_, State>> {
        let mut state = self.alive()?;
        if !self.options.write {
            return Err(not_open_for("writing"));
        }
        state.begin(self.label, call, detail)?;
        Ok(state)
    }

    fn sync(&self, call: &str) -> Result<()> {
        let mut state = self.alive()?;
        let begun = state.begin(self.label, call, format_args!(""));
        let State {
            model, rng, powered, ..
        } = &mut *state;
        match begun {
            Ok(()) => model.sync_file(self.inode),
            Err(_) if *powered => model.fail_sync_file(self.inode, rng),
            Err(_) => {}
        }
        begun
    }
}

fn not_open_for(what: &str) -> Error {
    Error::new(
        ErrorKind::PermissionDenied,
        format!("the file is not open for {what}"),
    )
}

impl DiskFile for SimFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize> {
        Ok(self.read()?.model.read_at(self.inode, bytes, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let len = bytes.len() as u64;
        let hash = blake3::hash(bytes);
        let mut state = self.change("write_at", format_args!("{offset}+{len} {hash}"))?;
        state.check_room(self.inode, offset, len)?;
        state.model.write_at(self.inode, bytes, offset);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let mut state = self.change("set_len", format_args!("{len}"))?;
        state.model.set_len(self.inode, len);
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        let mut state = self.change("allocate", format_args!("{offset}+{len}"))?;
        state.check_room(self.inode, offset, len)?;
        state.model.allocate(self.inode, offset, len);
        Ok(())
    }

    fn punch_hole(&self, offset: u64, len: u64) -> Result<()> {
        let mut state = self.change("punch_hole", format_args!("{offset}+{len}"))?;
        state.model.punch_hole(self.inode, offset, len);
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        self.sync("sync_data")
    }

    fn sync_all(&self) -> Result<()> {
        self.sync("sync_all")
    }

    fn len(&self) -> Result<u64> {
        Ok(self.alive()?.model.len(self.inode))
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        Ok(self.read()?.model.next_data(self.inode, offset))
    }

    fn as_raw_fd(&self) -> Option<RawFd> {
        None
    }
}

#[cfg(test)]
mod tests;
