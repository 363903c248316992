use std::path::PathBuf;

use super::{Boot, argv};
use crate::record::Forward;
use crate::vmm::spec::{Accel, AppNic, Board, VmSpec, VolumeDisk};

fn spec() -> VmSpec {
    VmSpec {
        name: "d4a192e0dbda1e".to_owned(),
        qemu: PathBuf::from("/usr/bin/qemu-system-x86_64"),
        kernel: PathBuf::from("/a/vmlinux"),
        initrd: PathBuf::from("/a/initramfs.cpio"),
        bios: PathBuf::from("/a/qboot.rom"),
        board: Board::Microvm,
        accel: Accel::Tcg,
        tsc_khz: Some(2_500_000),
        cpus: 2,
        memory_mb: 512,
        kernel_args: vec!["debug".to_owned()],
        rootfs: PathBuf::from("/i/root.erofs"),
        overlay_bytes: 1 << 30,
        swap_bytes: 0,
        volumes: vec![VolumeDisk {
            serial: "vol_1".to_owned(),
            path: PathBuf::from("/p/vol, 1.img"),
            export: None,
            passphrase: Some("hunter2".to_owned()),
            direct: true,
            block_device: false,
            size_bytes: 1 << 30,
        }],
        io_uring: true,
        world_mac: "52:54:00:00:00:01".to_owned(),
        forwards: vec![Forward {
            protocol: "tcp".to_owned(),
            guest_port: 80,
            host_address: "127.130.1.2".to_owned(),
            host_port: 4000,
        }],
        app_nic: Some(AppNic {
            mac: "02:00:00:00:00:01".to_owned(),
            netdev: "dgram,id=app".to_owned(),
        }),
    }
}

fn golden(args: &[String]) -> String {
    args.join("\n")
}

#[test]
fn the_small_board_under_tcg_has_this_command_line() {
    let expected = r#"-name
d4a192e0dbda1e,process=qemu-d4a192e0dbda1e
-nodefaults
-no-user-config
-nographic
-no-reboot
-sandbox
on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
-accel
tcg,thread=multi,tb-size=64
-cpu
max
-machine
microvm,acpi=on,rtc=on,pic=off,pit=off
-bios
/a/qboot.rom
-global
virtio-mmio.force-legacy=false
-smp
2
-m
512M
-qmp
unix:qmp.sock,server=on,wait=off
-kernel
/a/vmlinux
-initrd
/a/initramfs.cpio
-append
console=ttyS0 quiet panic=-1 tsc_early_khz=2500000 debug
-chardev
file,id=console,path=console.log
-serial
chardev:console
-blockdev
{"driver":"file","filename":"/i/root.erofs","node-name":"rootfs","read-only":true}
-device
virtio-blk-device,drive=rootfs,id=disk-rootfs,serial=rootfs
-blockdev
{"cache":{"direct":false,"no-flush":true},"detect-zeroes":"unmap","discard":"unmap","driver":"file","filename":"overlay.img","node-name":"overlay"}
-device
virtio-blk-device,drive=overlay,id=disk-overlay,serial=overlay
-blockdev
{"aio":"io_uring","cache":{"direct":true,"no-flush":false},"discard":"unmap","driver":"file","filename":"/p/vol, 1.img","node-name":"v0-file"}
-object
secret,id=key0,file=/dev/fd/7
-blockdev
{"discard":"unmap","driver":"luks","file":"v0-file","key-secret":"key0","node-name":"v0"}
-device
virtio-blk-device,drive=v0,id=disk-v0,serial=vol_1
-device
virtio-serial-device
-chardev
socket,id=agent,path=agent.sock,server=on,wait=off
-device
virtserialport,chardev=agent,name=agent.0
-chardev
socket,id=log,path=log.sock,server=on,wait=off
-device
virtserialport,chardev=log,name=log.0
-object
rng-random,id=rng,filename=/dev/urandom
-device
virtio-rng-device,rng=rng
-netdev
user,id=world,ipv6=off,hostfwd=tcp:127.130.1.2:4000-:80
-device
virtio-net-device,netdev=world,mac=52:54:00:00:00:01
-netdev
dgram,id=app
-device
virtio-net-device,netdev=app,mac=02:00:00:00:00:01"#;
    assert_eq!(
        golden(&argv(&spec(), &[Some("/dev/fd/7".to_owned())], Boot::Cold)),
        expected
    );
}

#[test]
fn a_passphrase_is_never_on_the_command_line() {
    let args = argv(&spec(), &[Some("/dev/fd/7".to_owned())], Boot::Cold);
    assert!(args.iter().all(|arg| !arg.contains("hunter2")));
    assert!(!format!("{:?}", spec()).contains("hunter2"));
}

#[test]
fn kvm_needs_no_tsc_rate_and_q35_uses_pci() {
    let args = argv(
        &VmSpec {
            accel: Accel::Kvm,
            board: Board::Q35,
            ..spec()
        },
        &[],
        Boot::Cold,
    );
    assert!(
        args.iter()
            .all(|arg| !arg.contains("tsc_early_khz") && !arg.contains("virtio-blk-device"))
    );
    assert!(args.iter().any(|arg| arg == "virtio-rng-pci,rng=rng"));
}

#[test]
fn a_resumed_machine_differs_only_by_its_incoming_image() {
    let cold = argv(&spec(), &[Some("x".to_owned())], Boot::Cold);
    let resumed = argv(&spec(), &[Some("x".to_owned())], Boot::Incoming);
    let extra: Vec<_> = resumed.iter().filter(|arg| !cold.contains(arg)).collect();
    assert_eq!(extra, ["-incoming", "unix:ram-in.sock", "-S"]);
}

#[test]
fn a_logical_volume_is_a_host_device_uncached_on_io_uring_with_discards_through() {
    let mut spec = spec();
    let volume = &mut spec.volumes[0];
    volume.path = PathBuf::from("/dev/mapper/vg0-v--vol_1");
    (volume.passphrase, volume.block_device) = (None, true);
    let line = golden(&argv(&spec, &[None], Boot::Cold));
    let device = r#"{"aio":"io_uring","cache":{"direct":true,"no-flush":false},"discard":"unmap","driver":"host_device","filename":"/dev/mapper/vg0-v--vol_1","node-name":"v0-file"}"#;
    assert!(line.contains(device), "{line}");
    assert!(line.contains(r#""driver":"raw","file":"v0-file""#), "{line}");
}

#[test]
fn an_nbd_volume_waits_for_a_server_that_is_started_again() {
    let mut spec = spec();
    let volume = &mut spec.volumes[0];
    volume.path = PathBuf::from("/d/vol_1/nbd.sock");
    (volume.passphrase, volume.export) = (None, Some("vol_1".to_owned()));
    let line = golden(&argv(&spec, &[None], Boot::Cold));
    let device = r#"{"discard":"unmap","driver":"nbd","export":"vol_1","node-name":"v0-file","open-timeout":60,"reconnect-delay":3600,"server":{"path":"/d/vol_1/nbd.sock","type":"unix"}}"#;
    assert!(line.contains(device), "{line}");
    assert!(line.contains(r#""driver":"raw","file":"v0-file""#), "{line}");
    let sectors =
        "virtio-blk-device,drive=v0,id=disk-v0,serial=vol_1,logical_block_size=4096,physical_block_size=4096";
    assert!(line.contains(sectors), "{line}");
}
