//! QEMU: what it is started with, and its monitor.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use guest_init::proto::config::{GuestConfig, Rootfs};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::image;
use super::machine::PATIENCE;

/// Machine types that guests run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Board {
    /// No bus to search, devices in memory.
    Microvm,
    /// A PC with PCI Express.
    Q35,
}

/// A disk of a machine.
pub(crate) struct Disk {
    pub(crate) serial: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) read_only: bool,
}

/// What a machine is made of.
pub(crate) struct Spec {
    pub(crate) config: GuestConfig,
    pub(crate) memory_mb: u32,
    pub(crate) disks: Vec<Disk>,
    /// The machine type and the bus that its devices' names end in.
    pub(crate) board: Board,
    /// More arguments for QEMU.
    pub(crate) arguments: Vec<String>,
}

impl Spec {
    /// Returns a machine that runs `script` by the image's shell.
    pub(crate) fn new(script: &str) -> Self {
        let text = r#"{"hostname":"h1","machine_id":"m1","argv":["/bin/sh","-c",""]}"#;
        let mut config: GuestConfig = serde_json::from_str(text).unwrap();
        script.clone_into(&mut config.argv[2]);
        config.rootfs = Rootfs::default();
        Self {
            config,
            memory_mb: 192,
            disks: Vec::new(),
            board: Board::Microvm,
            arguments: Vec::new(),
        }
    }

    /// Adds a volume; its configuration is JSON without the braces and the serial.
    pub(crate) fn volume(mut self, serial: &'static str, path: &Path, mount: &str) -> Self {
        let mount = serde_json::from_str(&format!(r#"{{"serial":"{serial}",{mount}}}"#)).unwrap();
        self.config.mounts.push(mount);
        self.disks.push(Disk {
            serial,
            path: path.to_owned(),
            read_only: false,
        });
        self
    }
}

/// A running QEMU.
pub(crate) struct Qemu {
    child: Child,
    monitor: BufReader<UnixStream>,
}

impl Qemu {
    /// Starts QEMU in `dir`, from saved memory if there is any.
    pub(crate) async fn launch(dir: &Path, spec: &Spec, saved: Option<&Path>) -> Self {
        let socket = dir.join("qmp");
        // The file of an earlier run.
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let mut command = command(dir, spec);
        if saved.is_some() {
            command.args(["-incoming", "defer"]);
        }
        let child = command
            .spawn()
            .expect("qemu-system-x86_64 starts (package qemu-system-x86)");
        let (monitor, _) = timeout(PATIENCE, listener.accept())
            .await
            .expect("QEMU connects")
            .unwrap();
        let mut qemu = Self {
            child,
            monitor: BufReader::new(monitor),
        };
        // Its greeting comes when all devices, and so all sockets, are there.
        qemu.hear(|message| message.get("QMP").is_some()).await;
        qemu.ask("qmp_capabilities", "{}").await;
        if let Some(saved) = saved {
            // It goes on only once everything is loaded: saved in a pause, it comes back in a pause.
            qemu.migrate("migrate-incoming", &format!("exec:cat {}", saved.display()))
                .await;
            qemu.ask("cont", "{}").await;
        }
        qemu
    }

    /// Asks and requires success.
    pub(crate) async fn ask(&mut self, command: &str, arguments: &str) {
        let line = format!("{{\"execute\":\"{command}\",\"arguments\":{arguments}}}\n");
        self.monitor.get_mut().write_all(line.as_bytes()).await.unwrap();
        let answer = self.hear(|message| message.get("event").is_none()).await;
        assert!(answer.get("return").is_some(), "{line}: {answer}");
    }

    async fn hear(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut line = String::new();
            timeout(PATIENCE, self.monitor.read_line(&mut line))
                .await
                .expect("QEMU speaks")
                .unwrap();
            let message: Value = serde_json::from_str(&line).expect("QEMU speaks JSON");
            if wanted(&message) {
                return message;
            }
        }
    }

    /// Stops the machine, saves its memory to `path`, and ends QEMU.
    pub(crate) async fn save(&mut self, path: &Path) {
        self.ask("stop", "{}").await;
        self.migrate("migrate", &format!("exec:cat > {}", path.display()))
            .await;
        self.ask("quit", "{}").await;
        self.ended().await;
    }

    /// Moves the machine's memory and waits until it is moved.
    async fn migrate(&mut self, command: &str, uri: &str) {
        let events = r#"{"capabilities":[{"capability":"events","state":true}]}"#;
        self.ask("migrate-set-capabilities", events).await;
        self.ask(command, &format!(r#"{{"uri":"{uri}"}}"#)).await;
        let state = |message: &Value| message["data"]["status"].as_str().unwrap_or_default().to_owned();
        let end = self
            .hear(|message| ["completed", "failed"].contains(&&*state(message)))
            .await;
        assert_eq!(state(&end), "completed");
    }

    /// Waits for QEMU's end, which must be a good one.
    pub(crate) async fn ended(&mut self) {
        let status = timeout(PATIENCE, self.child.wait())
            .await
            .expect("the machine powers off")
            .unwrap();
        assert!(status.success(), "QEMU ended with {status}");
    }
}

fn command(dir: &Path, spec: &Spec) -> Command {
    let assets = image::assets();
    let mut command = Command::new("qemu-system-x86_64");
    command.args(
        "-accel tcg,thread=multi,tb-size=64 -cpu max -nodefaults -no-user-config -nographic".split(' '),
    );
    command
        .args("-no-reboot -smp 1".split(' '))
        .arg("-m")
        .arg(spec.memory_mb.to_string());
    let suffix = match spec.board {
        Board::Microvm => {
            command
                .args(["-M", "microvm"])
                .arg("-bios")
                .arg(assets.join("qboot.rom"));
            "device"
        }
        Board::Q35 => {
            command.args(["-M", "q35"]);
            "pci"
        }
    };
    command
        .arg("-kernel")
        .arg(assets.join("vmlinux"))
        .arg("-initrd")
        .arg(assets.join("initramfs.cpio"));
    let append = format!(
        "console=ttyS0 quiet panic=-1 tsc_early_khz={}",
        guest_boot::tsc_khz()
    );
    command.args(["-append", &append]);
    command
        .arg("-serial")
        .arg(format!("file:{}", dir.join("console").display()));
    command
        .arg("-qmp")
        .arg(format!("unix:{}", dir.join("qmp").display()));
    command.arg("-device").arg(format!("virtio-serial-{suffix}"));
    command.arg("-device").arg(format!("virtio-rng-{suffix}"));
    for (id, name) in [("agent", "agent.0"), ("log", "log.0")] {
        let socket = dir.join(id);
        command.arg("-chardev").arg(format!(
            "socket,id={id},path={},server=on,wait=off",
            socket.display()
        ));
        command
            .arg("-device")
            .arg(format!("virtserialport,chardev={id},name={name}"));
    }
    let overlay = Disk {
        serial: "overlay",
        path: dir.join("overlay"),
        read_only: false,
    };
    let root = Disk {
        serial: "rootfs",
        path: image::root().to_owned(),
        read_only: true,
    };
    for disk in spec.disks.iter().chain([&root, &overlay]) {
        let (serial, read_only) = (disk.serial, if disk.read_only { "on" } else { "off" });
        command.arg("-blockdev").arg(format!(
            "driver=raw,node-name={serial},read-only={read_only},file.driver=file,file.filename={}",
            disk.path.display()
        ));
        command
            .arg("-device")
            .arg(format!("virtio-blk-{suffix},drive={serial},serial={serial}"));
    }
    command
        .args(&spec.arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}
