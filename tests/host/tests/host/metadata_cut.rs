//! LVM's own changes, and a power cut between any two requests of them.
//!
//! LVM 2.03 flushes nothing: what it returned from is durable once somebody flushes the disk, as volumed does; and where the
//! cut falls into a change itself, the disk may keep the new header and not the text that it names. That is what LVM's backup
//! of its metadata is for, which lies on another disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;

use host_tests::{Body, Case, End, Guest, PowerCut};
use rand::RngExt as _;

use crate::report;

const ROUNDS: u64 = 24;
const EXTENT_MIB: u64 = 4;
/// What is acknowledged with the text of a backup behind it, in one line.
const BACKUP: &str = "backup";
const LINE_END: &str = "\u{1f}";

pub(crate) const CASE: Case = Case {
    name: "metadata_cut::what_lvm_returned_from_survives_a_power_cut",
    body: Body::PowerCut(PowerCut {
        workload: change_volumes,
        check: what_lvm_returned_from_survives_a_power_cut,
        requests: 700,
        short_seeds: 2,
        long_seeds: 50,
    }),
    end: End::Passes,
};

/// Names and sizes in MiB.
type Volumes = BTreeMap<String, u64>;

/// One change, as it is told to the harness and read back after the cut.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Thin(String, u64),
    Linear(String, u64),
    Extend(String, u64),
    Snapshot(String, String),
    Remove(String),
}

impl Change {
    fn command(&self) -> String {
        match self {
            Self::Thin(name, mib) => format!("lvcreate -y -n {name} -V {mib}M --thinpool $vg/pool -kn"),
            Self::Linear(name, mib) => format!("lvcreate -y -n {name} -L {mib}M -Wy -Zy $vg"),
            Self::Extend(name, mib) => format!("lvextend -L {mib}M $vg/{name}"),
            Self::Snapshot(name, of) => format!("lvcreate -y -n {name} -s $vg/{of} -ky"),
            Self::Remove(name) => format!("lvremove -f $vg/{name}"),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Thin(name, mib) => format!("thin {name} {mib}"),
            Self::Linear(name, mib) => format!("linear {name} {mib}"),
            Self::Extend(name, mib) => format!("extend {name} {mib}"),
            Self::Snapshot(name, of) => format!("snapshot {name} {of}"),
            Self::Remove(name) => format!("remove {name} -"),
        }
    }

    fn parse(text: &str) -> Self {
        let words: Vec<&str> = text.split(' ').collect();
        let name = words[1].to_owned();
        let mib = || words[2].parse().unwrap();
        match words[0] {
            "thin" => Self::Thin(name, mib()),
            "linear" => Self::Linear(name, mib()),
            "extend" => Self::Extend(name, mib()),
            "snapshot" => Self::Snapshot(name, words[2].to_owned()),
            "remove" => Self::Remove(name),
            other => panic!("no change is called {other}"),
        }
    }

    fn apply(&self, volumes: &mut Volumes) {
        match self {
            Self::Thin(name, mib) | Self::Linear(name, mib) | Self::Extend(name, mib) => {
                volumes.insert(name.clone(), *mib);
            }
            Self::Snapshot(name, of) => {
                volumes.insert(name.clone(), volumes[of]);
            }
            Self::Remove(name) => {
                volumes.remove(name);
            }
        }
    }
}

/// Chooses a change that LVM will not refuse.
fn choose(round: u64, volumes: &Volumes, rng: &mut impl rand::Rng) -> Change {
    let any = |rng: &mut dyn rand::Rng| {
        let names: Vec<&String> = volumes.keys().filter(|name| *name != "fs").collect();
        (!names.is_empty()).then(|| names[rng.random_range(0..names.len())].clone())
    };
    match rng.random_range(0..6) {
        0 => Change::Linear(format!("l{round}"), EXTENT_MIB * rng.random_range(1..=8)),
        1 | 2 => match any(rng) {
            Some(name) => {
                let mib = volumes[&name] + EXTENT_MIB;
                Change::Extend(name, mib)
            }
            None => Change::Thin(format!("t{round}"), 64),
        },
        3 => match any(rng) {
            Some(name) => Change::Remove(name),
            None => Change::Snapshot(format!("s{round}"), "fs".to_owned()),
        },
        4 => Change::Snapshot(format!("s{round}"), "fs".to_owned()),
        _ => Change::Thin(format!("t{round}"), EXTENT_MIB * rng.random_range(1..=32)),
    }
}

fn change_volumes(guest: &Guest) {
    guest.must("pvcreate -y $disk && vgcreate -y $vg $disk");
    guest.must("lvcreate -y --type thin-pool -L 256M --chunksize 64k --poolmetadatasize 4m -n pool $vg");
    guest.must("lvcreate -y -n fs -V 64M --thinpool $vg/pool -kn");
    guest.must("mkfs.ext4 -q /dev/$vg/fs && mkdir mnt && mount /dev/$vg/fs mnt");
    let mut volumes = Volumes::from([("fs".to_owned(), 64)]);
    let mut rng = guest.rng();
    durable(guest);
    guest.arm();
    for round in 0..ROUNDS {
        let change = choose(round, &volumes, &mut rng);
        guest.acknowledge(&format!("begin {}", change.text()));
        guest.must(&change.command());
        durable(guest);
        guest.acknowledge(&format!("done {}", change.text()));
        change.apply(&mut volumes);
        guest.must(&format!("echo {round} > mnt/{round}; sync"));
        guest.acknowledge(&format!("file {round}"));
    }
}

/// Makes a change durable, and hands its backup over.
fn durable(guest: &Guest) {
    guest.must("/sbin/sync $disk");
    guest.must("vgcfgbackup -f backup $vg");
    let text = std::fs::read_to_string(guest.scratch().join("backup")).unwrap();
    guest.acknowledge(&format!("{BACKUP} {}", text.replace('\n', LINE_END)));
}

/// Returns whether LVM could read its metadata; puts the backup back where the cut fell into a change of it.
fn read_or_restored(guest: &Guest, backup: &str, is_under_way: bool) -> bool {
    let read = guest.run("vgck $vg");
    if read.code == Some(0) {
        return true;
    }
    let said = format!("{}{}", read.stdout, read.stderr);
    assert!(is_under_way, "nothing was under way, and LVM says: {said}");
    assert!(said.contains("Checksum error"), "{said}");
    let mut file = File::create(guest.scratch().join("backup")).unwrap();
    file.write_all(backup.replace(LINE_END, "\n").as_bytes()).unwrap();
    guest.must("vgcfgrestore --force -f backup $vg && /sbin/sync $disk && vgck $vg");
    false
}

fn what_lvm_returned_from_survives_a_power_cut(guest: &Guest) {
    let mut before = Volumes::from([("fs".to_owned(), 64)]);
    let mut under_way = None;
    let (mut files, mut backup) = (Vec::new(), "");
    for line in guest.acknowledged() {
        match line.split_once(' ').unwrap() {
            ("begin", text) => under_way = Some(Change::parse(text)),
            ("done", text) => {
                Change::parse(text).apply(&mut before);
                under_way = None;
            }
            (BACKUP, text) => backup = text,
            (_, name) => files.push(name.to_owned()),
        }
    }
    let mut after = before.clone();
    if let Some(change) = &under_way {
        change.apply(&mut after);
    }
    guest.note(&format!("before {before:?}, under way {under_way:?}"));

    let read = read_or_restored(guest, backup, under_way.is_some());
    guest.must(
        "lvchange -y -ay $vg/pool_tmeta && thin_check /dev/$vg/pool_tmeta && lvchange -an $vg/pool_tmeta",
    );
    guest.must("lvchange -ay $vg/pool");
    let mut found: Volumes = report::lvs(guest)
        .iter()
        .map(|row| {
            (
                row["lv_name"].as_str().unwrap().to_owned(),
                row["lv_size"].as_str().unwrap().to_owned(),
            )
        })
        .filter(|(name, _)| name != "pool" && !name.starts_with('['))
        .map(|(name, bytes)| (name, bytes.parse::<u64>().unwrap() >> 20))
        .collect();
    assert!(found == before || (read && found == after), "{found:?}");
    remove_what_is_half_made(guest, under_way.as_ref(), &mut found);
    guest.must("vgchange -ay $vg");

    guest.must(
        "mkdir mnt && mount /dev/$vg/fs mnt && umount mnt && e2fsck -fn /dev/$vg/fs && mount /dev/$vg/fs mnt",
    );
    for name in files {
        assert!(
            guest.scratch().join("mnt").join(&name).exists(),
            "file {name} was synced and is gone"
        );
    }
    for snapshot in found.keys().filter(|name| name.starts_with('s')) {
        // Its journal is replayed, which is no repair.
        guest.must(&format!(
            "lvchange -ay -K $vg/{snapshot} && mkdir {snapshot} && mount /dev/$vg/{snapshot} {snapshot} && umount {snapshot} \
             && e2fsck -fn /dev/$vg/{snapshot}"
        ));
    }
    // And it goes on.
    guest.must("lvcreate -y -n again -V 64M --thinpool $vg/pool -kn && lvremove -f $vg/again");
    let (lvm, pool) = transactions(guest);
    assert_eq!(lvm, pool);
}

/// LVM writes a new thin volume into its metadata, with a message for the pool, before it sends the message; and it does not
/// send it when it activates the pool. Until its next change of the pool the volume is listed and may not be usable, and a
/// snapshot would be taken only then, of what its origin is by then. The two counts of transactions tell.
fn remove_what_is_half_made(guest: &Guest, under_way: Option<&Change>, found: &mut Volumes) {
    let (lvm, pool) = transactions(guest);
    if lvm == pool {
        return;
    }
    assert_eq!(lvm, pool + 1);
    match under_way {
        // The pool may have heard of the volume itself and not of the transaction: then it refuses what LVM sends again.
        Some(Change::Thin(name, _) | Change::Snapshot(name, _)) => {
            let number = report::lv(guest, name)["thin_id"].as_str().unwrap().to_owned();
            let heard = guest.run(&format!("dmsetup message $vg-pool-tpool 0 'delete {number}'"));
            guest.note(&format!("pool had heard of {name}: {}", heard.code == Some(0)));
            guest.must(&format!("lvremove -f $vg/{name}"));
            assert!(found.remove(name).is_some(), "{name} is half-made and not listed");
        }
        // Gone for LVM; the pool hears of it with the next change.
        Some(Change::Remove(_)) => {}
        other => panic!("transaction {lvm} of LVM, {pool} of the pool, under way {other:?}"),
    }
}

/// The last transaction of the pool, as LVM wrote it down and as the pool did.
fn transactions(guest: &Guest) -> (u64, u64) {
    let row = report::lv(guest, "pool");
    let status = guest.must("dmsetup status $vg-pool-tpool");
    let pool = status.split_whitespace().nth(3).expect("a transaction id");
    (
        row["transaction_id"].as_str().unwrap().parse().unwrap(),
        pool.parse().unwrap(),
    )
}
