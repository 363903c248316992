//! LUKS2 on a thin volume, the way volumed keeps keys: in a file that only it can read.

use host_tests::Guest;

/// Key slots that cost nothing to open: the key is random, not a person's passphrase.
pub(crate) const FORMAT: &str = "luksFormat -q --type luks2 --cipher aes-xts-plain64 --key-size 512 --pbkdf pbkdf2 \
                                 --pbkdf-force-iterations 1000 --key-file key";

pub(crate) fn a_luks_device_grows_only_for_who_has_the_key(guest: &Guest) {
    guest.must("pvcreate -y $disk && vgcreate -y $vg $disk");
    guest.must("lvcreate -y --type thin-pool -L 512M --chunksize 64k -n pool $vg");
    guest.must("lvcreate -y -n v -V 128M --thinpool $vg/pool -kn");
    guest.must("head -c 64 /dev/urandom > key && head -c 64 /dev/urandom > other");
    guest.must(&format!("cryptsetup {FORMAT} /dev/$vg/v"));
    guest.must("cryptsetup open --type luks2 --key-file key /dev/$vg/v $vg-plain");
    assert_eq!(
        guest
            .run("cryptsetup open --type luks2 --key-file other --test-passphrase /dev/$vg/v")
            .code,
        Some(2)
    );
    guest.must("mkfs.ext4 -q /dev/mapper/$vg-plain && mkdir mnt && mount /dev/mapper/$vg-plain mnt");
    guest.must("echo kept > mnt/file && sync");
    guest.must("lvextend -L 256M $vg/v");
    let sectors = || -> u64 {
        guest
            .must("blockdev --getsz /dev/mapper/$vg-plain")
            .trim()
            .parse()
            .unwrap()
    };
    let header_sectors = 32_768;
    assert_eq!(sectors(), (128 << 11) - header_sectors);
    // The volume key is in the kernel's keyring, out of reach: resize asks for a key again.
    assert_ne!(guest.run("cryptsetup resize $vg-plain < /dev/null").code, Some(0));
    assert_ne!(
        guest.run("cryptsetup resize --key-file other $vg-plain").code,
        Some(0)
    );
    assert_eq!(sectors(), (128 << 11) - header_sectors);
    guest.must("cryptsetup resize --key-file key $vg-plain");
    assert_eq!(sectors(), (256 << 11) - header_sectors);
    guest.must("resize2fs /dev/mapper/$vg-plain");
    guest.must("umount mnt && e2fsck -fn /dev/mapper/$vg-plain && mount /dev/mapper/$vg-plain mnt");
    assert_eq!(guest.must("cat mnt/file"), "kept\n");
    guest.record("luks-dump.txt", &guest.must("cryptsetup luksDump /dev/$vg/v"));
    guest.record("luks-status.txt", &guest.must("cryptsetup status $vg-plain"));
    guest.must("umount mnt && cryptsetup close $vg-plain");
}
