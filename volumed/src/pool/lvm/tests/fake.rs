//! A volume group that obeys LVM's commands, in memory, with files for devices. It is as unkind as LVM: it calls it a
//! failure to make what is there, to remove what is not, and to extend to the size that is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use async_trait::async_trait;
use crashsafe::{Disk as _, OpenOptions, RealDisk};
use serde_json::json;

use crate::command::{CommandError, Commands, Invocation, Output, Program};

pub(super) const EXTENT: u64 = 4 << 20;
const CHUNK: u64 = 64 << 10;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FakeLv {
    pub(super) size: u64,
    pub(super) tags: Vec<String>,
    pub(super) pool: Option<String>,
    pub(super) origin: Option<String>,
    pub(super) thin_id: Option<u64>,
    /// Of a thin volume: the pool's when it was made.
    pub(super) transaction_id: u64,
    pub(super) thin_pool: bool,
    pub(super) active: bool,
    pub(super) overflowed: bool,
}

impl FakeLv {
    fn cow(&self) -> bool {
        self.origin.is_some() && self.pool.is_none()
    }
}

/// What happens to the next command that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Killed before it did anything.
    Before,
    /// Killed after it did everything.
    After,
    /// Refused with exit code 5.
    Refused,
    /// Killed after it committed its metadata and before it told the thin pool.
    Halfway,
    /// Killed there together with volumed, which asks nothing any more.
    HalfwayWithUs,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) size: u64,
    pub(super) lvs: BTreeMap<String, FakeLv>,
    pub(super) missing_pvs: u64,
    pub(super) read_only: bool,
    seqno: u64,
    /// The thin pool's transaction as LVM has it, and as the pool does.
    transactions: (u64, u64),
    /// The thin volume of which the pool has not heard.
    unheard: Option<String>,
    halfway: bool,
    /// LVM wrote, and a power cut would take it.
    unflushed: bool,
    /// And it was read meanwhile.
    seen_unflushed: bool,
    /// The group's disks are not there.
    pub(super) absent: bool,
    /// Nor can LVM read what is there.
    pub(super) torn: bool,
    /// Nobody runs commands: volumed was killed.
    pub(super) gone: bool,
    /// Chunks in use and in all, the mode's word, and the last words of the pool's status.
    pub(super) data_used: u64,
    pub(super) mode: &'static str,
    pub(super) needs_check: bool,
    pub(super) delta: String,
    pub(super) held: bool,
    pub(super) place: String,
    /// Changes until the fault; counts down.
    pub(super) fault: Option<(u32, Fault)>,
    pub(super) changes: u32,
    pub(super) lines: Vec<String>,
}

impl State {
    fn free(&self) -> u64 {
        // A thin volume takes nothing of the group; a pool its data, its metadata and the spare of that.
        let taken = |lv: &FakeLv| match (&lv.pool, lv.thin_pool) {
            (Some(_), _) => 0,
            (None, true) => lv.size + 2 * EXTENT,
            (None, false) => lv.size,
        };
        self.size - self.lvs.values().map(taken).sum::<u64>()
    }
}

#[derive(Debug)]
pub(super) struct FakeLvm {
    dir: PathBuf,
    pub(super) state: Mutex<State>,
}

/// An error as LVM prints it.
type Said = Result<String, (i32, String)>;

fn failed(text: &str) -> Said {
    Err((5, text.to_owned()))
}

impl FakeLvm {
    pub(super) fn new(dir: &Path, size: u64) -> Self {
        std::fs::create_dir_all(dir.join("mapper")).unwrap();
        let state = State {
            size,
            mode: "rw",
            place: "/dev/x:0-0".to_owned(),
            ..State::default()
        };
        Self {
            dir: dir.to_owned(),
            state: Mutex::new(state),
        }
    }

    pub(super) fn mapper(&self) -> PathBuf {
        self.dir.join("mapper")
    }

    fn node(&self, lv: &str) -> PathBuf {
        self.mapper().join(format!("vg0-{}", lv.replace('-', "--")))
    }

    pub(super) fn backing(&self, lv: &str) -> PathBuf {
        self.dir.join(format!("lv-{lv}"))
    }

    fn activate(&self, lv: &str) {
        if !self.node(lv).exists() {
            std::os::unix::fs::symlink(self.backing(lv), self.node(lv)).unwrap();
        }
    }

    fn deactivate(&self, lv: &str) {
        if self.node(lv).symlink_metadata().is_ok() {
            std::fs::remove_file(self.node(lv)).unwrap();
        }
    }

    fn lvm(&self, state: &mut State, words: &[String]) -> Said {
        if state.torn {
            return failed(
                "WARNING: Checksum error on /dev/x at offset 25088.\n  WARNING: bad metadata text on /dev/x in mda1\n  \
                 Volume group \"vg0\" not found\n  Cannot process volume group vg0",
            );
        }
        if state.absent {
            return failed("Volume group \"vg0\" not found");
        }
        match words[0].as_str() {
            "vgs" => return Ok(vgs(state)),
            "lvs" => return Ok(lvs(state)),
            _ => {}
        }
        let call = Args::parse(words);
        let lv = call.target.rsplit('/').next().unwrap_or_default().to_owned();
        match words[0].as_str() {
            "lvcreate" => self.create(state, &call),
            "lvextend" => {
                let free = state.free();
                let Some(found) = state.lvs.get_mut(&lv) else {
                    return failed("Failed to find logical volume");
                };
                let Some(size) = call.size else {
                    return Ok(String::new()); // metadata
                };
                if size == found.size {
                    return failed("New size matches existing size");
                }
                assert!(size > found.size, "nothing ever shrinks");
                if found.pool.is_none() && size - found.size > free {
                    return failed("Insufficient free space");
                }
                found.size = size;
                set_len(&self.backing(&lv), size);
                Ok(String::new())
            }
            "lvchange" => {
                let Some(found) = state.lvs.get_mut(&lv) else {
                    return failed("Failed to find logical volume");
                };
                found.tags.retain(|tag| !call.del.contains(tag));
                found.tags.extend(call.add.clone());
                match call.activate.as_deref() {
                    Some("y") if state.unheard.as_ref() == Some(&lv) => {
                        return failed("device-mapper: reload ioctl on (254:12) failed: No data available");
                    }
                    Some("y") => {
                        found.active = true;
                        self.activate(&lv);
                    }
                    Some("n") => {
                        found.active = false;
                        self.deactivate(&lv);
                    }
                    _ => {}
                }
                Ok(String::new())
            }
            "lvremove" => {
                let Some(removed) = state.lvs.remove(&lv) else {
                    return failed("Failed to find logical volume");
                };
                if state.unheard.as_ref() == Some(&lv) {
                    state.unheard = None;
                    state.transactions.1 = state.transactions.0;
                    return Ok(String::new());
                }
                if removed.pool.is_some() {
                    self.tell_pool(state);
                    state.transactions.0 += 1;
                    if !state.halfway {
                        self.tell_pool(state);
                    }
                }
                // LVM takes the snapshots of a linear volume with it.
                state
                    .lvs
                    .retain(|_, other| !(other.cow() && other.origin.as_deref() == Some(&*lv)));
                self.deactivate(&lv);
                std::fs::remove_file(self.backing(&lv)).unwrap();
                Ok(String::new())
            }
            other => panic!("unexpected command {other}"),
        }
    }

    fn create(&self, state: &mut State, call: &Args) -> Said {
        let name = call.name.clone().expect("a name");
        if state.lvs.contains_key(&name) {
            return failed("already exists in volume group");
        }
        let origin = call
            .snapshot
            .then(|| call.target.rsplit('/').next().unwrap().to_owned());
        let source = origin.as_ref().map(|origin| state.lvs[origin].clone());
        let thin = call
            .thin_pool
            .clone()
            .or_else(|| source.as_ref().and_then(|s| s.pool.clone()));
        if thin.is_some() {
            self.tell_pool(state);
        }
        let mut size = call
            .size
            .or_else(|| source.as_ref().map(|s| s.size))
            .expect("a size");
        size = size.div_ceil(EXTENT) * EXTENT;
        if thin.is_none() && size > state.free() {
            return failed("insufficient free space");
        }
        let made = FakeLv {
            size,
            tags: call.add.clone(),
            thin_id: thin.as_ref().map(|_| state.seqno),
            transaction_id: state.transactions.0,
            thin_pool: call.kind.as_deref() == Some("thin-pool"),
            active: call.activate.as_deref() != Some("n") && !call.skip,
            pool: thin,
            origin,
            overflowed: false,
        };
        let is_thin = made.pool.is_some();
        state.lvs.insert(name.clone(), made);
        if !is_thin {
            self.materialise(state, &name);
            return Ok(String::new());
        }
        state.transactions.0 += 1;
        state.unheard = Some(name);
        if !state.halfway {
            self.tell_pool(state);
        }
        Ok(String::new())
    }

    /// Sends the thin pool what it has not heard of: only now a volume comes to be, a snapshot as its origin is now.
    fn tell_pool(&self, state: &mut State) {
        if let Some(name) = state.unheard.take() {
            self.materialise(state, &name);
        }
        state.transactions.1 = state.transactions.0;
    }

    fn materialise(&self, state: &State, name: &str) {
        let (made, backing) = (&state.lvs[name], self.backing(name));
        match &made.origin {
            // A copy-on-write snapshot shows its origin's size.
            Some(origin) => copy_sparse(&self.backing(origin), &backing),
            None => {
                std::fs::File::create(&backing).unwrap();
                set_len(&backing, made.size);
                if made.pool.is_none() && !made.thin_pool {
                    // What somebody else left there.
                    let disk = RealDisk.open("fake", &backing, OpenOptions::READ_WRITE).unwrap();
                    disk.write_at(&vec![0xee; 4096], 0).unwrap();
                    disk.write_at(&vec![0xee; 4096], made.size - 4096).unwrap();
                }
            }
        }
        if made.active {
            self.activate(name);
        }
    }

    fn dmsetup(&self, state: &mut State, words: &[String]) -> Said {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match &words[..] {
            ["ls"] => Ok("No devices found\n".to_owned()),
            ["status", name] if name.ends_with("-tpool") => {
                match state.lvs.get("pool").filter(|lv| lv.active) {
                    Some(pool) => Ok(format!(
                        "0 8 thin-pool {} 10/1024 {}/{} {} {} discard_passdown queue_if_no_space {} 1024\n",
                        state.transactions.1,
                        state.data_used,
                        pool.size / CHUNK,
                        if state.held { "7" } else { "-" },
                        state.mode,
                        if state.needs_check { "needs_check" } else { "-" },
                    )),
                    None => Err((1, "Device does not exist.".to_owned())),
                }
            }
            ["status", name] => {
                let lv = name.strip_prefix("vg0-").unwrap().replace("--", "-");
                match state.lvs.get(&lv) {
                    Some(found) if found.overflowed => Ok("0 8 snapshot Invalid\n".to_owned()),
                    Some(_) => Ok("0 8 snapshot 16/8192 16\n".to_owned()),
                    None => Err((1, "Device does not exist.".to_owned())),
                }
            }
            ["message", _, "0", message] => {
                assert_ne!(
                    state.held,
                    *message == "reserve_metadata_snap",
                    "one metadata snapshot at a time"
                );
                state.held = *message == "reserve_metadata_snap";
                Ok(String::new())
            }
            other => panic!("unexpected dmsetup {other:?}"),
        }
    }
}

impl State {
    /// What a power cut would take is neither built upon nor believed.
    fn must_be_flushed(&mut self, call: &Invocation, changes: bool) {
        match call.program {
            Program::Sync => (self.unflushed, self.seen_unflushed) = (false, false),
            Program::Lvm => {
                // `vgs` is the second half of a reading.
                let kept = !self.seen_unflushed || call.args[0] == "vgs";
                assert!(
                    kept && !(changes && self.unflushed),
                    "what LVM wrote before was not flushed: {}",
                    call.line()
                );
                self.seen_unflushed = self.unflushed;
                self.unflushed |= changes;
            }
            _ => {}
        }
    }
}

#[async_trait]
impl Commands for FakeLvm {
    async fn run(&self, call: &Invocation) -> Result<Output, CommandError> {
        let mut state = self.state.lock().unwrap();
        let timed_out = || CommandError::TimedOut {
            line: call.line(),
            after: call.time_limit,
        };
        if state.gone {
            return Err(timed_out());
        }
        state.lines.push(call.line());
        let changes = call.program == Program::Lvm && !matches!(call.args[0].as_str(), "vgs" | "lvs");
        state.must_be_flushed(call, changes);
        let mut fault = None;
        if changes {
            state.changes += 1;
            state.seqno += 1;
            if let Some((left, kind)) = state.fault.take() {
                match left {
                    0 => fault = Some(kind),
                    _ => state.fault = Some((left - 1, kind)),
                }
            }
        }
        match fault {
            Some(Fault::Before) => return Err(timed_out()),
            Some(Fault::Refused) => {
                return Ok(Output {
                    code: 5,
                    stdout: String::new(),
                    stderr: "  Refused.\n".to_owned(),
                });
            }
            Some(Fault::After | Fault::Halfway | Fault::HalfwayWithUs) | None => {}
        }
        state.halfway = matches!(fault, Some(Fault::Halfway | Fault::HalfwayWithUs));
        state.gone = fault == Some(Fault::HalfwayWithUs);
        let said = match call.program {
            Program::Lvm => self.lvm(&mut state, &call.args),
            Program::Sync => Ok(String::new()),
            Program::Dmsetup => self.dmsetup(&mut state, &call.args),
            Program::ThinDelta => {
                assert!(state.held, "only a metadata snapshot may be compared");
                Ok(state.delta.clone())
            }
            other => panic!("no {} here", other.name()),
        };
        if fault.is_some() {
            return Err(timed_out());
        }
        let (code, stdout, stderr) = match said {
            Ok(stdout) => (0, stdout, String::new()),
            Err((code, stderr)) => (code, String::new(), stderr),
        };
        Ok(Output { code, stdout, stderr })
    }
}

/// The arguments of a command of LVM that matter here.
#[derive(Debug, Default)]
struct Args {
    name: Option<String>,
    size: Option<u64>,
    add: Vec<String>,
    del: Vec<String>,
    thin_pool: Option<String>,
    kind: Option<String>,
    activate: Option<String>,
    snapshot: bool,
    skip: bool,
    target: String,
}

impl Args {
    fn parse(words: &[String]) -> Self {
        let bytes = |text: &String| text.strip_suffix('b').and_then(|n| n.parse().ok());
        let mut args = Self::default();
        let mut words = words.iter().skip(1);
        let mut ignored = false;
        while let Some(word) = words.next() {
            let mut value = || words.next().expect("a value");
            match word.as_str() {
                "-n" => args.name = Some(value().clone()),
                "-L" | "-V" => args.size = bytes(value()),
                "--addtag" => args.add.push(value().clone()),
                "--deltag" => args.del.push(value().clone()),
                "--thinpool" => args.thin_pool = Some(value().clone()),
                "--type" => args.kind = Some(value().clone()),
                "-s" => args.snapshot = true,
                "-ky" => args.skip = true,
                "-K" => ignored = true,
                "-ay" => args.activate = Some("y".to_owned()),
                "-an" => args.activate = Some("n".to_owned()),
                "--config"
                | "--devices"
                | "--poolmetadatasize"
                | "--poolmetadataspare"
                | "--chunksize"
                | "--zero"
                | "--discards" => drop(value()),
                "-y" | "-f" | "-Wn" | "-Zn" => {}
                target if !target.starts_with('-') => args.target = target.to_owned(),
                other => panic!("unexpected argument {other}"),
            }
        }
        assert!(
            args.activate.as_deref() != Some("y") || ignored,
            "activation is skipped without -K"
        );
        args
    }
}

fn set_len(path: &Path, len: u64) {
    let file = RealDisk.open("fake", path, OpenOptions::READ_WRITE).unwrap();
    file.set_len(len).unwrap();
}

fn copy_sparse(from: &Path, to: &Path) {
    let source = RealDisk.open("fake", from, OpenOptions::READ).unwrap();
    let target = RealDisk.open("fake", to, OpenOptions::CREATE_NEW).unwrap();
    target.set_len(source.len().unwrap()).unwrap();
    let mut at = 0;
    while let Some(run) = source.next_data(at).unwrap() {
        let mut bytes = vec![0; usize::try_from(run.end - run.start).unwrap()];
        source.read_exact_at(&mut bytes, run.start).unwrap();
        target.write_at(&bytes, run.start).unwrap();
        at = run.end;
    }
}

fn group(state: &State) -> serde_json::Value {
    let attr = match (state.read_only, state.missing_pvs) {
        (true, _) => "rz--n-",
        (false, 0) => "wz--n-",
        (false, _) => "wz-pn-",
    };
    json!({
        "vg_name": "vg0", "vg_uuid": "U", "vg_attr": attr, "vg_size": state.size.to_string(),
        "vg_free": state.free().to_string(), "vg_extent_size": EXTENT.to_string(),
        "vg_missing_pv_count": state.missing_pvs.to_string(), "vg_seqno": state.seqno.to_string(),
    })
}

fn vgs(state: &State) -> String {
    json!({"report": [{"vg": [group(state)]}]}).to_string()
}

fn lvs(state: &State) -> String {
    let row = |name: &str, lv: &FakeLv, attr: &str| {
        let mut row = json!({
            "lv_uuid": name, "lv_name": name, "lv_attr": attr, "lv_size": lv.size.to_string(), "lv_metadata_size": "",
            "lv_tags": lv.tags.join(","), "pool_lv": lv.pool.clone().unwrap_or_default(),
            "origin": lv.origin.clone().unwrap_or_default(),
            "thin_id": lv.thin_id.map(|id| id.to_string()).unwrap_or_default(),
            "transaction_id": match (lv.thin_pool, &lv.pool) {
                (true, _) => state.transactions.0.to_string(),
                (false, Some(_)) => lv.transaction_id.to_string(),
                (false, None) => String::new(),
            },
            "data_percent": "", "chunk_size": if lv.thin_pool { CHUNK.to_string() } else { "0".to_owned() },
            "zero": if lv.thin_pool { "zero" } else { "unknown" }, "lv_active": if lv.active { "active" } else { "" },
            "lv_suspended": "", "lv_device_open": "",
            "lv_snapshot_invalid": if lv.overflowed { "snapshot invalid" } else { "" }, "seg_pe_ranges": state.place,
        });
        let fields = row.as_object_mut().expect("an object");
        fields.extend(group(state).as_object().expect("an object").clone());
        row
    };
    let mut rows = Vec::new();
    for (name, lv) in &state.lvs {
        let attr = match (lv.thin_pool, lv.cow(), &lv.pool) {
            (true, _, _) => "twi-aotz--",
            (_, true, _) => "swi-a-s---",
            (_, _, Some(_)) => "Vwi-a-tz-k",
            _ => "-wi-a----k",
        };
        rows.push(row(name, lv, attr));
        if lv.thin_pool {
            let part = FakeLv {
                size: EXTENT,
                ..FakeLv::default()
            };
            rows.push(row(&format!("[{name}_tmeta]"), &part, "ewi-ao----"));
        }
    }
    json!({"report": [{"lv": rows}]}).to_string()
}
