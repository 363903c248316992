//! LUKS2 on a device, opened as a dm-crypt mapping.
//!
//! The passphrase is high-entropy and goes in by the standard input only. The payload begins at a constant offset, so
//! that a slice is larger than its volume by exactly that.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::command::{CommandError, Commands, Invocation, Program};

/// Bytes before the payload.
pub const HEADER_BYTES: u64 = 16 << 20;
const SECTOR_BYTES: u64 = 512;
/// The passphrase has 256 bits of entropy: stretching it would only cost time.
const KEY_STRETCHING: [&str; 4] = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
/// What cryptsetup answers to a wrong passphrase.
const WRONG_PASSPHRASE: i32 = 2;

/// Drives cryptsetup.
#[derive(Clone, Debug)]
pub struct Crypt {
    commands: Arc<dyn Commands>,
    mapper: PathBuf,
}

impl Crypt {
    /// * `mapper`: where device nodes are.
    pub fn new(commands: Arc<dyn Commands>, mapper: &Path) -> Self {
        Self {
            commands,
            mapper: mapper.to_owned(),
        }
    }

    /// Returns the device node of a mapping.
    pub fn device(&self, name: &str) -> PathBuf {
        self.mapper.join(name)
    }

    async fn run(&self, args: &[&str], input: Option<Zeroizing<String>>) -> Result<(), CommandError> {
        let mut call = Invocation::new(Program::Cryptsetup, args.iter().copied());
        call.input = input;
        self.commands.succeed(&call).await.map(drop)
    }

    /// Writes a new header with a new volume key; what was on the device is lost.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn format(&self, device: &Path, passphrase: &Zeroizing<String>) -> Result<(), CommandError> {
        let offset = (HEADER_BYTES / SECTOR_BYTES).to_string();
        let device = device.display().to_string();
        let fixed = [
            "luksFormat",
            "--batch-mode",
            "--type",
            "luks2",
            "--cipher",
            "aes-xts-plain64",
            "--key-size",
            "512",
            "--sector-size",
            "512",
            "--offset",
            &offset,
            "--key-file",
            "-",
        ];
        let args = [&fixed[..], &KEY_STRETCHING, &[&device]].concat();
        self.run(&args, Some(passphrase.clone())).await
    }

    /// Says whether a passphrase opens the header.
    ///
    /// # Errors
    /// [`CommandError`] when that cannot be found out, as of a device without a header.
    pub async fn opens(&self, device: &Path, passphrase: &Zeroizing<String>) -> Result<bool, CommandError> {
        let device = device.display().to_string();
        let args = ["open", "--test-passphrase", "--key-file", "-", &device];
        match self.run(&args, Some(passphrase.clone())).await {
            Ok(()) => Ok(true),
            Err(CommandError::Failed {
                code: WRONG_PASSPHRASE,
                ..
            }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes the mapping `name`; nothing happens when it is there.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn open(
        &self,
        device: &Path,
        name: &str,
        passphrase: &Zeroizing<String>,
    ) -> Result<PathBuf, CommandError> {
        if !self.active().await?.contains(name) {
            let device = device.display().to_string();
            // Discards tell an onlooker which sectors are unused, and give their room back to the pool.
            let args = [
                "open",
                "--type",
                "luks2",
                "--allow-discards",
                "--key-file",
                "-",
                &device,
                name,
            ];
            self.run(&args, Some(passphrase.clone())).await?;
        }
        Ok(self.device(name))
    }

    /// Ends the mapping `name`; nothing happens when it is not there.
    ///
    /// # Errors
    /// [`CommandError`]; also while somebody has it open.
    pub async fn close(&self, name: &str) -> Result<(), CommandError> {
        if !self.active().await?.contains(name) {
            return Ok(());
        }
        self.run(&["close", name], None).await
    }

    /// Gives a mapping the size of its device, while it is used.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn resize(&self, name: &str, passphrase: &Zeroizing<String>) -> Result<(), CommandError> {
        self.run(&["resize", "--key-file", "-", name], Some(passphrase.clone()))
            .await
    }

    /// Gives a header another passphrase; the volume key stays. Nothing happens when it has it already.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn rekey(
        &self,
        device: &Path,
        old: &Zeroizing<String>,
        new: &Zeroizing<String>,
    ) -> Result<(), CommandError> {
        if old == new || self.opens(device, new).await? {
            return Ok(());
        }
        let device = device.display().to_string();
        let (old_len, new_len) = (old.len().to_string(), new.len().to_string());
        let sizes = [
            "--key-file",
            "-",
            "--keyfile-size",
            &old_len,
            "--new-keyfile-size",
            &new_len,
        ];
        // Both by one input, one after the other; `-` is the new key's file too.
        let args = [
            &["luksChangeKey", "--batch-mode"],
            &KEY_STRETCHING[..],
            &sizes,
            &[&device, "-"],
        ]
        .concat();
        let both = Zeroizing::new(format!("{}{}", old.as_str(), new.as_str()));
        self.run(&args, Some(both)).await
    }

    /// Returns the names of all mappings of the host, of whatever kind: a name of ours is one of ours.
    ///
    /// The kernel gives the list in one call. Asked for one kind only, dmsetup looks at each mapping in turn, and fails
    /// when somebody takes one away meanwhile.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn active(&self) -> Result<BTreeSet<String>, CommandError> {
        let call = Invocation::new(Program::Dmsetup, ["ls"]);
        let listed = self.commands.succeed(&call).await?;
        // `name<tab>(major:minor)`, or one sentence when there is none.
        let names = listed.lines().filter_map(|line| line.split_once('\t'));
        Ok(names.map(|(name, _)| name.to_owned()).collect())
    }
}
