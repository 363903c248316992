//! What a kill of LVM leaves between the commit of its metadata and its message to the thin pool.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use host_tests::Guest;
use volumed::bulk::Layout;
use volumed::command::{CommandError, Commands, Invocation, Output, Program, SystemCommands};
use volumed::pool::lvm::LvmPool;
use volumed::pool::{Pool as _, PoolError, Slice, SliceId};

use crate::pool::{MIB, Must as _, SIZE, capture, open_by, prepare, read, thin, volume, write};
use crate::report;

/// How often LVM may be faster than its killer.
const TRIES_MAX: u32 = 50;
/// What LVM says when its metadata is committed, and not before it was written.
const COMMITTED: &str = " metadata commit seq ";

/// Runs commands, and kills one that makes a thin volume where it has committed and not told the pool.
#[derive(Debug)]
struct Killer {
    system: SystemCommands,
    vg: String,
    armed: AtomicBool,
    /// Volumed dies with LVM: nobody runs anything after.
    with_us: AtomicBool,
    gone: AtomicBool,
}

impl Killer {
    fn new(guest: &Guest) -> Arc<Self> {
        Arc::new(Self {
            system: SystemCommands::find(false),
            vg: guest.vg(),
            armed: AtomicBool::new(false),
            with_us: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        })
    }

    fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// Starts a command that says what it does, and kills it as soon as it has committed.
    fn kill_when_committed(&self, call: &Invocation) {
        let (mut said, pipe) = std::io::pipe().unwrap();
        // It may be ahead of its reader by this much: as little as there is.
        rustix::pipe::fcntl_setpipe_size(&said, 4096).unwrap();
        let mut command = Command::new("/sbin/lvm");
        command
            .args(&call.args)
            .arg("-vvvv")
            .env_clear()
            .env("LC_ALL", "C")
            .env("DM_DISABLE_UDEV", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(pipe);
        let mut child = command.spawn().unwrap();
        // Its end of the pipe is the child's alone.
        drop(command);
        let (mut text, mut byte) = (Vec::new(), [0]);
        while said.read(&mut byte).unwrap() == 1 {
            text.push(byte[0]);
            if text.ends_with(COMMITTED.as_bytes()) {
                child.kill().unwrap();
                break;
            }
        }
        child.wait().unwrap();
    }

    fn shell(&self, script: &str) -> String {
        let out = Command::new("/bin/sh")
            .args(["-c", script])
            .env("vg", &self.vg)
            .env("DM_DISABLE_UDEV", "1")
            .output()
            .unwrap();
        String::from_utf8(out.stdout).unwrap()
    }

    fn is_half_made(&self) -> bool {
        let lvm = self.shell("lvs --noheadings -o transaction_id $vg/pool");
        let status = self.shell("dmsetup status $vg-pool-tpool || dmsetup status $vg-pool");
        let pool = status.split_whitespace().nth(3).expect("a transaction id");
        let (lvm, pool): (u64, u64) = (lvm.trim().parse().unwrap(), pool.parse().unwrap());
        lvm == pool + 1
    }
}

#[async_trait]
impl Commands for Killer {
    async fn run(&self, call: &Invocation) -> Result<Output, CommandError> {
        let timed_out = || CommandError::TimedOut {
            line: call.line(),
            after: call.time_limit,
        };
        if self.gone.load(Ordering::SeqCst) {
            return Err(timed_out());
        }
        let makes = call.program == Program::Lvm && call.args[0] == "lvcreate";
        if !makes || !self.armed.swap(false, Ordering::SeqCst) {
            return self.system.run(call).await;
        }
        let name = call.args.iter().skip_while(|arg| *arg != "-n").nth(1).unwrap();
        for _ in 0..TRIES_MAX {
            self.kill_when_committed(call);
            if self.is_half_made() {
                self.gone
                    .store(self.with_us.load(Ordering::SeqCst), Ordering::SeqCst);
                return Err(timed_out());
            }
            // Killed too early or too late: what it left suspended would hang the next try.
            self.shell(&format!(
                "for d in $(dmsetup ls | cut -f1 | grep ^$vg-); do dmsetup resume $d; done; lvremove -y -f $vg/{name}"
            ));
        }
        panic!("LVM was faster {TRIES_MAX} times");
    }
}

/// By our own time limit, and together with volumed; a volume and a capture.
pub(crate) fn what_lvm_listed_and_its_pool_never_heard_of_is_made_anew(guest: &Guest) {
    prepare(guest);
    guest.block_on(async {
        let killer = Killer::new(guest);
        let pool = open_by(guest, thin(512), Arc::clone(&killer) as _).await;
        let (source, layout) = (volume(&Layout::Raw), Layout::Raw);
        pool.create(&source).await.must();
        write(&pool, &source, MIB, 7, 4096).await;

        // LVM alone is killed: what it left is gone with the error.
        let (made, taken) = (volume(&layout), capture(&layout));
        killer.arm();
        pool.create(&made).await.unwrap_err();
        killer.arm();
        pool.copy(&source, &taken).await.unwrap_err();
        assert!(!killer.is_half_made());
        for slice in [&made, &taken] {
            let gone = guest.run(&format!("lvs $vg/{}", slice.id.name()));
            assert_eq!(gone.code, Some(5), "{}", gone.stdout);
        }
        pool.create(&made).await.must();
        pool.copy(&source, &taken).await.must();
        assert_eq!(
            (read(&pool, &made, MIB).await, read(&pool, &taken, MIB).await),
            (0, 7)
        );
        drop(pool);

        // Volumed too: the next one finds it.
        for slice in [volume(&layout), capture(&layout)] {
            let pool = open_by(guest, thin(512), Arc::clone(&killer) as _).await;
            write(&pool, &source, MIB, 8, 4096).await;
            pool.deactivate(&source).await.must();
            killer.with_us.store(true, Ordering::SeqCst);
            killer.arm();
            make(&pool, &source, &slice).await.unwrap_err();
            killer.gone.store(false, Ordering::SeqCst);
            let name = slice.id.name();
            let of_lvm = report::lv(guest, &name);
            assert_ne!(guest.run(&format!("lvchange -ay -K $vg/{name}")).code, Some(0));
            // A kill between the pool's two messages leaves even this: its number is taken, by other bytes.
            let (number, origin) = (&of_lvm["thin_id"], report::lv(guest, &source.id.name()));
            guest.must(&format!(
                "dmsetup message $vg-pool-tpool 0 'create_snap {} {}'",
                number.as_str().unwrap(),
                origin["thin_id"].as_str().unwrap()
            ));
            let pool = open_by(guest, thin(512), Arc::clone(&killer) as _).await;
            let listed = pool.list().await.must();
            let listed = listed.iter().find(|found| found.id == slice.id).unwrap();
            assert!(!listed.complete);
            write(&pool, &source, MIB, 9, 4096).await;
            make(&pool, &source, &slice).await.must();
            let expected = if matches!(slice.id, SliceId::Volume(_)) {
                0
            } else {
                9
            };
            // Acknowledged: nothing that comes after is in it.
            write(&pool, &source, MIB, 10, 4096).await;
            pool.create(&volume(&layout)).await.must();
            assert_eq!(read(&pool, &slice, MIB).await, expected);
            assert_eq!(read(&pool, &slice, SIZE - 4096).await, 0);
            assert!(!killer.is_half_made());
        }
    });
}

async fn make(pool: &LvmPool, source: &Slice, slice: &Slice) -> Result<(), PoolError> {
    match slice.id {
        SliceId::Volume(_) => pool.create(slice).await,
        SliceId::Capture(_) => pool.copy(source, slice).await.map(drop),
    }
}
