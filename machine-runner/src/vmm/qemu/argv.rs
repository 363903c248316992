//! QEMU's command line. Pure.

use std::path::Path;

use serde_json::{Value, json};

use crate::vmm::spec::{Accel, Board, VmSpec, VolumeDisk};

/// Id of the app network's back end.
pub const APP_NETDEV: &str = "app";
/// Control socket, in the machine's directory.
pub const QMP_SOCKET: &str = "qmp.sock";
/// Socket of the guest's agent port.
pub const AGENT_SOCKET: &str = "agent.sock";
/// Socket of the guest's log port.
pub const LOG_SOCKET: &str = "log.sock";
/// Socket through which a RAM image goes out.
pub const RAM_OUT_SOCKET: &str = "ram-out.sock";
/// Socket through which a RAM image comes in.
pub const RAM_IN_SOCKET: &str = "ram-in.sock";
/// Kernel messages.
pub const CONSOLE_LOG: &str = "console.log";
/// Writable layer of the root file system.
pub const OVERLAY_FILE: &str = "overlay.img";
/// Swap.
pub const SWAP_FILE: &str = "swap.img";

/// How the guest starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    /// From the kernel.
    Cold,
    /// From a RAM image that arrives at [`RAM_IN_SOCKET`].
    Incoming,
}

/// Name of the node that the guest's disk number `index` stands on.
#[must_use]
pub fn volume_node(index: usize) -> String {
    format!("v{index}")
}

/// For how long requests wait for an NBD server that is gone.
const RECONNECT_S: u32 = 3600;
/// For how long a start of QEMU waits for one.
const OPEN_TIMEOUT_S: u32 = 60;

/// Name of the node of the backing file under [`volume_node`].
#[must_use]
pub fn volume_file_node(index: usize) -> String {
    format!("v{index}-file")
}

/// Builds the arguments. `secrets[i]` is the path from which QEMU reads the passphrase of volume `i`; it must be
/// there for each volume with a passphrase. No passphrase is ever in the result.
#[must_use]
pub fn argv(spec: &VmSpec, secrets: &[Option<String>], boot: Boot) -> Vec<String> {
    let mut line = Line {
        args: Vec::new(),
        suffix: if spec.board == Board::Microvm {
            "device"
        } else {
            "pci"
        },
    };
    base(&mut line, spec, boot);
    kernel(&mut line, spec);
    line.blockdev(&json!({
        "driver": "file", "node-name": "rootfs", "filename": text(&spec.rootfs), "read-only": true,
    }));
    line.disk("rootfs", "rootfs");
    line.blockdev(&scratch("overlay", OVERLAY_FILE));
    line.disk("overlay", "overlay");
    if spec.swap_bytes > 0 {
        line.blockdev(&scratch("swap", SWAP_FILE));
        line.disk("swap", "swap");
    }
    for (index, volume) in spec.volumes.iter().enumerate() {
        let secret = secrets.get(index).and_then(Option::as_deref);
        volume_disk(&mut line, index, volume, secret, spec.io_uring);
    }
    channels(&mut line);
    network(&mut line, spec);
    line.args
}

/// An export is read and written by 4 KiB. Less would be read, changed and written back by QEMU; and a file system that was made on
/// smaller sectors could not be mounted on the host, where nobody does that.
const EXPORT_SECTORS: &str = ",logical_block_size=4096,physical_block_size=4096";

struct Line {
    args: Vec<String>,
    suffix: &'static str,
}

impl Line {
    fn option(&mut self, name: &str, value: impl Into<String>) {
        self.args.push(format!("-{name}"));
        self.args.push(value.into());
    }

    fn flag(&mut self, name: &str) {
        self.args.push(format!("-{name}"));
    }

    /// JSON, so that no character of a path can be taken for syntax.
    fn blockdev(&mut self, node: &Value) {
        self.option("blockdev", node.to_string());
    }

    fn device(&mut self, kind: &str, rest: &str) {
        let suffix = self.suffix;
        self.option("device", format!("{kind}-{suffix}{rest}"));
    }

    fn disk(&mut self, node: &str, serial: &str) {
        self.disk_with(node, serial, "");
    }

    fn disk_with(&mut self, node: &str, serial: &str, more: &str) {
        self.device(
            "virtio-blk",
            &format!(",drive={node},id=disk-{node},serial={serial}{more}"),
        );
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn base(line: &mut Line, spec: &VmSpec, boot: Boot) {
    line.option("name", format!("{},process=qemu-{}", spec.name, spec.name));
    line.flag("nodefaults");
    line.flag("no-user-config");
    line.flag("nographic");
    line.flag("no-reboot");
    // The guest's end is told by an event before the process ends.
    line.option(
        "sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    );
    match spec.accel {
        Accel::Kvm => line.option("accel", "kvm"),
        Accel::Tcg => line.option("accel", "tcg,thread=multi,tb-size=64"),
    }
    line.option("cpu", "max");
    match spec.board {
        Board::Microvm => {
            line.option("machine", "microvm,acpi=on,rtc=on,pic=off,pit=off");
            line.option("bios", text(&spec.bios));
            line.option("global", "virtio-mmio.force-legacy=false");
        }
        Board::Q35 => line.option("machine", "q35"),
    }
    line.option("smp", spec.cpus.to_string());
    line.option("m", format!("{}M", spec.memory_mb));
    line.option("qmp", format!("unix:{QMP_SOCKET},server=on,wait=off"));
    if boot == Boot::Incoming {
        line.option("incoming", format!("unix:{RAM_IN_SOCKET}"));
        line.flag("S");
    }
}

fn kernel(line: &mut Line, spec: &VmSpec) {
    line.option("kernel", text(&spec.kernel));
    line.option("initrd", text(&spec.initrd));
    let mut words = vec![
        "console=ttyS0".to_owned(),
        "quiet".to_owned(),
        "panic=-1".to_owned(),
    ];
    // Without it a guest of the small board waits for ever for ticks that never come.
    if let (Accel::Tcg, Some(khz)) = (spec.accel, spec.tsc_khz) {
        words.push(format!("tsc_early_khz={khz}"));
    }
    words.extend(spec.kernel_args.iter().cloned());
    line.option("append", words.join(" "));
    line.option("chardev", format!("file,id=console,path={CONSOLE_LOG}"));
    line.option("serial", "chardev:console");
}

/// A file that does not outlive the run: the host's cache may keep what the guest flushes.
fn scratch(node: &str, file: &str) -> Value {
    json!({
        "driver": "file", "node-name": node, "filename": file, "discard": "unmap", "detect-zeroes": "unmap",
        "cache": {"direct": false, "no-flush": true},
    })
}

/// A node over an export of an NBD server. While the server is away the guest waits, for an hour: a disk that fails would make
/// its file system read-only, and a server that is started again has lost nothing.
pub(super) fn nbd_node(node: &str, socket: &Path, export: &str) -> Value {
    json!({
        "driver": "nbd", "node-name": node, "server": {"type": "unix", "path": text(socket)}, "export": export,
        "reconnect-delay": RECONNECT_S, "open-timeout": OPEN_TIMEOUT_S, "discard": "unmap",
    })
}

/// A node that shows the bytes of another as they are.
pub(super) fn raw_node(node: &str, file_node: &str) -> Value {
    json!({
        "driver": "raw", "node-name": node, "file": file_node, "discard": "unmap", "detect-zeroes": "unmap",
    })
}

fn volume_disk(line: &mut Line, index: usize, volume: &VolumeDisk, secret: Option<&str>, io_uring: bool) {
    let (node, file_node) = (volume_node(index), volume_file_node(index));
    line.blockdev(&match &volume.export {
        Some(export) => nbd_node(&file_node, &volume.path, export),
        None => json!({
            "driver": if volume.block_device { "host_device" } else { "file" },
            "node-name": file_node, "filename": text(&volume.path), "discard": "unmap",
            "cache": {"direct": volume.direct, "no-flush": false},
            "aio": if io_uring { "io_uring" } else { "threads" },
        }),
    });
    let mut format = raw_node(&node, &file_node);
    if let Some(secret) = secret {
        let id = format!("key{index}");
        line.option("object", format!("secret,id={id},file={secret}"));
        format = json!({
            "driver": "luks", "node-name": node, "file": file_node, "key-secret": id, "discard": "unmap",
        });
    }
    line.blockdev(&format);
    let sectors = match volume.export {
        Some(_) => EXPORT_SECTORS,
        None => "",
    };
    line.disk_with(&node, &volume.serial, sectors);
}

fn channels(line: &mut Line) {
    line.device("virtio-serial", "");
    for (id, path, name) in [("agent", AGENT_SOCKET, "agent.0"), ("log", LOG_SOCKET, "log.0")] {
        line.option(
            "chardev",
            format!("socket,id={id},path={path},server=on,wait=off"),
        );
        line.option("device", format!("virtserialport,chardev={id},name={name}"));
    }
    line.option("object", "rng-random,id=rng,filename=/dev/urandom");
    line.device("virtio-rng", ",rng=rng");
}

fn network(line: &mut Line, spec: &VmSpec) {
    let mut world = "user,id=world,ipv6=off".to_owned();
    for forward in &spec.forwards {
        world.push_str(&format!(
            ",hostfwd={}:{}:{}-:{}",
            forward.protocol, forward.host_address, forward.host_port, forward.guest_port
        ));
    }
    line.option("netdev", world);
    line.device("virtio-net", &format!(",netdev=world,mac={}", spec.world_mac));
    if let Some(nic) = &spec.app_nic {
        line.option("netdev", nic.netdev.clone());
        line.device("virtio-net", &format!(",netdev={APP_NETDEV},mac={}", nic.mac));
    }
}

#[cfg(test)]
mod tests;
