//! volumed with its catalog, its bucket and its volumes on one disk, used all the while, and a power cut.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use host_tests::{Body, Case, End, Guest, PowerCut};
use rand::RngExt as _;
use serde_json::{Value, json};

use crate::node::{Node, pools, runtime};
use crate::pool::prepare;
use crate::report;

const ROUNDS: u64 = 30;

pub(crate) const CASE: Case = Case {
    name: "node_cut::lvm_catalog_and_file_systems_agree_after_a_power_cut",
    body: Body::PowerCut(PowerCut {
        workload: use_volumes,
        check: lvm_catalog_and_file_systems_agree_after_a_power_cut,
        requests: 3000,
        short_seeds: 1,
        long_seeds: 50,
    }),
    end: End::Passes,
};

/// Where the host keeps volumed's data and the bucket: on the same disk as the volumes.
fn mount_host(guest: &Guest) {
    guest.must("mkdir node && mount /dev/$vg/host node");
}

fn mounted(guest: &Guest) -> PathBuf {
    guest.scratch().join("mounted")
}

/// Makes a file that is there for good, and says so.
fn keep(guest: &Guest, at: &Path, number: u64) {
    let file = File::create(at.join(number.to_string())).unwrap();
    std::io::Write::write_all(&mut &file, &number.to_le_bytes().repeat(4096)).unwrap();
    file.sync_all().unwrap();
    File::open(at).unwrap().sync_all().unwrap();
    guest.acknowledge(&format!("file {number}"));
}

fn request(name: &str, pool: &str, encrypted: bool) -> Value {
    json!({
        "app": "shop", "name": name, "size_gb": 1, "pool": pool, "encrypted": encrypted,
        "auto_backup_enabled": false, "require_unique_zone": false,
    })
}

fn use_volumes(guest: &Guest) {
    prepare(guest);
    guest.must("lvcreate -y -n host -L 512M -Wy -Zy $vg && mkfs.ext4 -q /dev/$vg/host");
    mount_host(guest);
    runtime().block_on(async {
        let node = Node::start(guest, "node", &pools(guest)).await;
        let used = node.create(request("used", "thin", false)).await;
        let at = mounted(guest);
        node.mount(&used, &at).await;
        guest.acknowledge(&format!("create {used} 1"));
        guest.acknowledge(&format!("mount {used}"));
        let mut rng = guest.rng();
        let mut others: Vec<(String, u64)> = Vec::new();
        guest.arm();
        for round in 0..ROUNDS {
            keep(guest, &at, round);
            let one = (!others.is_empty()).then(|| rng.random_range(0..others.len()));
            match (rng.random_range(0..5), one) {
                (0, _) => {
                    let id = node.snapshot(&used).await;
                    guest.acknowledge(&format!("snapshot {id} {round}"));
                }
                (1, Some(index)) => {
                    let (id, gb) = &mut others[index];
                    guest.acknowledge(&format!("extending {id} {}", *gb + 1));
                    // A linear pool may be full by then, and says so.
                    if node.extend_if_there_is_room(id, *gb + 1).await {
                        *gb += 1;
                        guest.acknowledge(&format!("extended {id} {gb}"));
                    }
                }
                (2, Some(index)) => {
                    let (id, _) = others.swap_remove(index);
                    guest.acknowledge(&format!("deleting {id}"));
                    let path = format!("/v1/volumes/{id}");
                    node.call("DELETE", &path, &Value::Null).await;
                    guest.acknowledge(&format!("deleted {id}"));
                }
                _ => {
                    let (pool, encrypted) =
                        [("thin", false), ("thin", true), ("linear", false)][rng.random_range(0..3)];
                    if pool == "linear" && others.len() > 2 {
                        continue;
                    }
                    let new = request("other", pool, encrypted);
                    let made = match pool {
                        // Others may have grown into all of it.
                        "linear" => node.create_if_there_is_room(new).await,
                        _ => Some(node.create(new).await),
                    };
                    let Some(id) = made else { continue };
                    guest.acknowledge(&format!("create {id} 1"));
                    others.push((id, 1));
                }
            }
        }
    });
}

/// What is known of a volume.
#[derive(Debug, Default)]
struct Known {
    /// At least.
    gb: u64,
    deleting: bool,
    deleted: bool,
}

#[derive(Debug, Default)]
struct Acknowledged {
    volumes: BTreeMap<String, Known>,
    /// The newest, and the last file in it.
    snapshot: Option<(String, u64)>,
    mounted: String,
    files: Vec<u64>,
}

fn acknowledged(guest: &Guest) -> Acknowledged {
    let mut all = Acknowledged::default();
    for line in guest.acknowledged() {
        let words: Vec<&str> = line.split(' ').collect();
        let id = words[1].to_owned();
        match words[0] {
            "create" | "extended" => {
                all.volumes.entry(id).or_default().gb = words[2].parse().unwrap();
            }
            "extending" => {}
            "deleting" => all.volumes.entry(id).or_default().deleting = true,
            "deleted" => all.volumes.entry(id).or_default().deleted = true,
            "mount" => all.mounted = id,
            "snapshot" => all.snapshot = Some((id, words[2].parse().unwrap())),
            "file" => all.files.push(words[1].parse().unwrap()),
            other => panic!("nobody acknowledges a {other}"),
        }
    }
    all
}

fn assert_files(at: &Path, files: impl IntoIterator<Item = u64>) {
    for number in files {
        let found = fs::read(at.join(number.to_string()));
        let found = found.unwrap_or_else(|error| panic!("file {number} was synced: {error}"));
        assert!(
            found == number.to_le_bytes().repeat(4096),
            "file {number} is damaged"
        );
    }
}

fn lvm_catalog_and_file_systems_agree_after_a_power_cut(guest: &Guest) {
    let before = acknowledged(guest);
    guest.must("vgck $vg");
    guest.must(
        "lvchange -y -ay $vg/pool_tmeta && thin_check /dev/$vg/pool_tmeta && lvchange -an $vg/pool_tmeta",
    );
    // Mounting replays the journal; after that nothing may be left to repair.
    guest.must("lvchange -ay $vg/host");
    mount_host(guest);
    guest.must("umount node && e2fsck -fn /dev/$vg/host && mount /dev/$vg/host node");
    runtime().block_on(async {
        let node = Node::start(guest, "node", &pools(guest)).await;
        let at = mounted(guest);
        node.until("/v1/health", "is at rest", |health| {
            health["running_operations"] == 0
        })
        .await;
        let mounted = format!("/v1/volumes/{}", before.mounted);
        node.until(&mounted, "is mounted again", |_| {
            at.join("0").exists() || before.files.is_empty()
        })
        .await;
        let volumes = node.call("GET", "/v1/volumes", &Value::Null).await;
        assert_known(&before, &volumes);
        assert_same_as_lvm(guest, &node, &volumes).await;
        assert_files(&at, before.files.iter().copied());

        if let Some((id, last)) = &before.snapshot {
            let mut back = request("back", "thin", false);
            back["snapshot_id"] = json!(id);
            back.as_object_mut().unwrap().remove("size_gb");
            let (id, back_at) = (node.create(back).await, guest.scratch().join("back"));
            node.mount(&id, &back_at).await;
            assert_files(&back_at, 0..=*last);
            node.unmount(&id).await;
        }
        // And it goes on. The linear pool may be full.
        node.create(request("again", "thin", false)).await;
        node.unmount(&before.mounted).await;
    });
    guest.must(&format!(
        "lvchange -ay -K $vg/v-{0} && e2fsck -fn /dev/$vg/v-{0}",
        before.mounted
    ));
}

fn is_there(volume: &Value) -> bool {
    volume["state"] == "created"
}

fn assert_known(before: &Acknowledged, volumes: &Value) {
    let volumes = volumes.as_array().expect("a list");
    for (id, known) in &before.volumes {
        let found = volumes
            .iter()
            .find(|volume| volume["id"] == **id && is_there(volume));
        match found {
            Some(volume) => {
                assert!(!known.deleted, "{id} was deleted: {volume}");
                assert!(
                    volume["size_gb"].as_u64().unwrap() >= known.gb,
                    "{known:?}: {volume}"
                );
            }
            None => assert!(known.deleting, "{id} is gone: {volumes:?}"),
        }
    }
}

fn tagged(row: &Value, tag: &str) -> bool {
    row["lv_tags"]
        .as_str()
        .unwrap_or_default()
        .split(',')
        .any(|one| one == tag)
}

/// Every volume of the catalog has its logical volume, and every logical volume of ours is known.
async fn assert_same_as_lvm(guest: &Guest, node: &Node<'_>, volumes: &Value) {
    let rows = report::lvs(guest);
    for volume in volumes
        .as_array()
        .unwrap()
        .iter()
        .filter(|volume| is_there(volume))
    {
        let id = volume["id"].as_str().unwrap();
        let row = rows.iter().find(|row| row["lv_name"] == format!("v-{id}"));
        let row = row.unwrap_or_else(|| panic!("{volume} has no logical volume: {rows:?}"));
        assert!(!tagged(row, "volumed.state=new"), "{row}");
        let bytes: u64 = row["lv_size"].as_str().unwrap().parse().unwrap();
        let least = volume["size_gb"].as_u64().unwrap() << 30;
        assert!(bytes >= least, "{volume}: {row}");
    }
    let pools = node.call("GET", "/v1/pools", &Value::Null).await;
    for pool in pools.as_array().unwrap() {
        assert_eq!(pool["state"], "ok", "{pool}");
        assert_eq!(pool["unknown_slices"], json!([]), "{pool}");
    }
}
