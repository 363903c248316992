//! Growing all the way: from `lvextend` until `statfs` shows it, mounted.

use host_tests::Guest;

use crate::luks;

pub(crate) fn a_mounted_file_system_grows_with_its_device(guest: &Guest) {
    guest.must("pvcreate -y $disk && vgcreate -y $vg $disk");
    guest.must("lvcreate -y --type thin-pool -L 1G --chunksize 64k -n pool $vg");
    guest.must("head -c 64 /dev/urandom > key");
    let mut figures = String::new();
    for (device, create) in [
        ("thin", "lvcreate -y -n $n -V 512M --thinpool $vg/pool -kn"),
        ("linear", "lvcreate -y -n $n -L 512M -Wy -Zy $vg"),
        ("luks", "lvcreate -y -n $n -V 512M --thinpool $vg/pool -kn"),
    ] {
        for fs in ["ext4", "xfs"] {
            let seconds = grow(guest, device, create, fs);
            figures.push_str(&format!("{device} {fs} {seconds:.3} s\n"));
        }
    }
    guest.record("grow-seconds.txt", &figures);
}

/// Makes a file system on a device, grows both, and returns how long the growing took.
fn grow(guest: &Guest, device: &str, create: &str, fs: &str) -> f64 {
    let name = format!("{device}-{fs}");
    let run = |script: &str| guest.must(&format!("n={name}; {script}"));
    run(create);
    let path = if device == "luks" {
        run(&format!("cryptsetup {} /dev/$vg/$n", luks::FORMAT));
        run("cryptsetup open --type luks2 --key-file key /dev/$vg/$n $vg-$n-plain");
        "/dev/mapper/$vg-$n-plain"
    } else {
        "/dev/$vg/$n"
    };
    run(&format!(
        "mkfs.{fs} -q {path} && mkdir $n && mount {path} $n && echo kept > $n/file"
    ));
    let bytes = || {
        let stat = rustix::fs::statvfs(guest.scratch().join(&name)).expect("the file system is mounted");
        stat.f_blocks * stat.f_frsize
    };
    let before = bytes();
    let begun = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    run("lvextend -q -L 1G $vg/$n");
    if device == "luks" {
        run("cryptsetup resize --key-file key $vg-$n-plain");
    }
    match fs {
        "xfs" => run("xfs_growfs -d $n"),
        _ => run(&format!("resize2fs {path}")),
    };
    let after = bytes();
    let ended = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // What the file system takes for itself is less than a tenth.
    assert!(after > before + (450 << 20), "{name}: {before} to {after}");
    assert_eq!(run("cat $n/file"), "kept\n");
    run("umount $n");
    match fs {
        "xfs" => run(&format!("xfs_repair -n {path}")),
        _ => run(&format!("e2fsck -fn {path}")),
    };
    if device == "luks" {
        run("cryptsetup close $vg-$n-plain");
    }
    run("lvremove -f $vg/$n");
    let seconds = |time: rustix::time::Timespec| {
        std::time::Duration::try_from(time)
            .unwrap_or_default()
            .as_secs_f64()
    };
    seconds(ended) - seconds(begun)
}
