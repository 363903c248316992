//! A volume group of two disks, one of which is gone.

use std::fs;
use std::path::PathBuf;

use host_tests::Guest;
use serde_json::{Value, json};

use crate::node::{Node, runtime};

/// Room for exactly one volume of 1 GiB.
const SMALL_MIB: u64 = 1026;
const LARGE_MIB: u64 = 1536;

/// Two disks made of the test's one.
struct Disks<'a> {
    guest: &'a Guest,
}

impl Disks<'_> {
    fn name(&self, which: &str) -> String {
        format!("{which}-{}", self.guest.vg())
    }

    fn path(&self, which: &str) -> PathBuf {
        PathBuf::from("/dev/mapper").join(self.name(which))
    }

    fn plug(&self, which: &str) {
        let (mib, from) = match which {
            "small" => (SMALL_MIB, 0),
            _ => (LARGE_MIB, SMALL_MIB),
        };
        self.guest.must(&format!(
            "dmsetup create {} --table \"0 {} linear $disk {}\"",
            self.name(which),
            mib * 2048,
            from * 2048
        ));
    }

    fn unplug(&self, which: &str) {
        self.guest.must(&format!("dmsetup remove {}", self.name(which)));
    }
}

async fn pool(node: &Node<'_>) -> Value {
    let pools = node.call("GET", "/v1/pools", &Value::Null).await;
    let mut pools = pools.as_array().unwrap().iter();
    pools.find(|pool| pool["name"] == "linear").unwrap().clone()
}

fn request(name: &str) -> Value {
    json!({
        "app": "shop", "name": name, "size_gb": 1, "pool": "linear", "encrypted": false,
        "auto_backup_enabled": false, "require_unique_zone": false,
    })
}

/// What lies on the other disk is served, nothing new is made, and all is well when the disk is back.
pub(crate) fn a_missing_disk_is_told_and_what_lies_on_others_goes_on(guest: &Guest) {
    let disks = Disks { guest };
    disks.plug("small");
    disks.plug("large");
    guest.must(&format!(
        "sed -i 's#a|[^|]*|#a|^/dev/mapper/.*-{}$|#' lvm/lvm.conf",
        guest.vg()
    ));
    let (small, large) = (disks.path("small"), disks.path("large"));
    let both = format!("{} {}", small.display(), large.display());
    guest.must(&format!("pvcreate -y {both} && vgcreate -y -s 4m $vg {both}"));
    let pools = format!(
        "[[pools]]\nname = \"linear\"\nkind = \"lvm-linear\"\nreserve_bytes = 0\nrefuse_percent = 99\nwarn_percent = 98\n\
         [pools.lvm]\nvg = \"{}\"\ndevices = [\"{}\", \"{}\"]\nudev = false\n",
        guest.vg(),
        small.display(),
        large.display(),
    );
    runtime().block_on(async {
        let mut node = Node::start(guest, "node", &pools).await;
        let mut volumes = Vec::new();
        for name in ["one", "two"] {
            let (id, at) = (node.create(request(name)).await, guest.scratch().join(name));
            node.mount(&id, &at).await;
            guest.must(&format!("echo {id} > {0}/mine && sync {0}/mine", at.display()));
            volumes.push((id, at));
        }
        let lies = |id: &str| guest.must(&format!("lvs --noheadings -o devices $vg/v-{id}"));
        let on_small = |(id, _): &&(String, PathBuf)| lies(id).contains("small");
        let lost = volumes
            .iter()
            .find(on_small)
            .expect("one lies on the small disk")
            .clone();
        let kept = volumes.iter().find(|volume| volume.0 != lost.0).unwrap().clone();
        assert!(!lies(&kept.0).contains("small"), "{}", lies(&kept.0));

        // The host goes down and comes up without the disk.
        node.kill();
        for (_, at) in &volumes {
            guest.must(&format!("umount {}", at.display()));
        }
        guest.must("vgchange -an $vg");
        disks.unplug("small");
        node.again().await;
        let kept_path = format!("/v1/volumes/{}", kept.0);
        node.until(&kept_path, "is mounted without the disk", |_| {
            kept.1.join("mine").exists()
        })
        .await;
        let seen = pool(&node).await;
        assert_eq!(seen["state"], "missing_pv", "{seen}");
        let refused = node.client.post::<Value>("/v1/volumes", &request("three")).await;
        let refused = format!("{:?}", refused.unwrap_err());
        assert!(
            refused.contains("422") && refused.contains("missing"),
            "{refused}"
        );
        assert!(!lost.1.join("mine").exists());
        let listed = node.call("GET", "/v1/volumes", &Value::Null).await;
        assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");

        node.kill();
        disks.plug("small");
        node.again().await;
        for (id, at) in &volumes {
            node.until(&format!("/v1/volumes/{id}"), "is mounted", |_| {
                at.join("mine").exists()
            })
            .await;
            assert_eq!(fs::read_to_string(at.join("mine")).unwrap().trim(), id);
        }
        let seen = pool(&node).await;
        assert_eq!(seen["state"], "ok", "{seen}");
        for (id, _) in &volumes {
            node.unmount(id).await;
            node.call("DELETE", &format!("/v1/volumes/{id}"), &Value::Null)
                .await;
        }
    });
    guest.must("vgchange -an $vg");
    disks.unplug("small");
    disks.unplug("large");
}
