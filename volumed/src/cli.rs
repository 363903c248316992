//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Host volume daemon.
#[derive(Debug, Parser)]
#[command(name = "volumed", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API on the Unix socket.
    Serve {
        /// Configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Serve one bottomless volume: what the daemon starts, and restarts.
    ///
    /// Exit status 0 when asked to end or drained, 1 when a person must look, 3 when it is to be started again, 4 when another host
    /// owns the disk, 5 when another process of this host serves it.
    Disk {
        /// The volume.
        id: String,
        /// The daemon's configuration file.
        #[arg(long)]
        config: PathBuf,
        /// Claim the disk from whoever has it: what that host has not uploaded is lost.
        #[arg(long)]
        force: bool,
        /// Throw away a journal that the disk went on without.
        #[arg(long)]
        discard_stale_journal: bool,
        /// Give a damaged journal up, with all that only it has.
        #[arg(long)]
        discard_damaged_journal: bool,
    },
    /// Make a bottomless volume's disk in the bucket, and the files from which this host serves it. Changes nothing that is there.
    DiskCreate {
        /// The volume: `vol_` and 16 digits or lower-case letters.
        id: String,
        /// The daemon's configuration file.
        #[arg(long)]
        config: PathBuf,
        /// Size, a multiple of 4096.
        #[arg(long)]
        size_bytes: u64,
        /// Size of the journal, a multiple of 4096.
        #[arg(long, default_value_t = 1 << 30)]
        ring_bytes: u64,
        /// Size of the read cache, a multiple of 4096.
        #[arg(long, default_value_t = 0)]
        cache_bytes: u64,
        /// A file that is made, or a block device [default: `slice` beside the settings].
        #[arg(long)]
        slice: Option<PathBuf>,
    },
    /// Check a bottomless volume's bucket: HEAD, checkpoints, the map, and every object. Changes nothing.
    ///
    /// Exit status 1 when something is damaged or missing, or cannot be looked at.
    Fsck {
        /// The volume.
        id: String,
        /// The daemon's configuration file.
        #[arg(long)]
        config: PathBuf,
        /// Read objects' fronts only, not every block.
        #[arg(long)]
        fronts: bool,
    },
    /// Print what HEAD, an object or a journal of a bottomless volume says.
    Dump {
        /// The volume.
        id: String,
        /// The daemon's configuration file.
        #[arg(long)]
        config: PathBuf,
        /// An object by its name, such as d/0000000000000001-00000001 [default: HEAD].
        object: Option<String>,
        /// The journal on this slice instead: a file or block device.
        #[arg(long, conflicts_with = "object")]
        journal: Option<PathBuf>,
    },
    /// Make an image of a bottomless volume from its data objects alone: for a bucket whose HEAD and checkpoints are gone.
    ///
    /// Exit status 1 when blocks are lost or damaged, or there is no image.
    Salvage {
        /// The volume.
        id: String,
        /// The daemon's configuration file.
        #[arg(long)]
        config: PathBuf,
        /// The image, which must not exist. It takes as much room as there is data.
        image: PathBuf,
        /// Take also what was written after a hole in the history: a file system may not bear it.
        #[arg(long)]
        beyond: bool,
    },
    /// Have the daemon read backups back from the bucket: a sample of blocks, or all of them.
    ///
    /// Exit status 0 when all that was read is right, 1 when something is damaged, 2 when something, or the daemon, could not be asked.
    Scrub {
        /// The daemon's configuration file.
        #[arg(long)]
        config: PathBuf,
        /// Only this volume's newest snapshot [default: of every volume].
        #[arg(long)]
        volume: Option<String>,
        /// Read all of it, as a restore would.
        #[arg(long)]
        restore: bool,
        /// Blocks of 4 MiB in a sample.
        #[arg(long)]
        blocks: Option<u32>,
        /// Print the daemon's answer.
        #[arg(long)]
        json: bool,
    },
    /// Make an NBD export a file, for a loop device where the kernel has no NBD: `disk` in an empty directory.
    ///
    /// Requests wait while nobody serves the export. It ends when the directory is unmounted.
    NbdFile {
        /// The server's Unix socket.
        #[arg(long)]
        socket: PathBuf,
        /// The export's name [default: the server's first].
        #[arg(long, default_value = "")]
        export: String,
        /// Where the file is to be: an empty directory.
        directory: PathBuf,
    },
}
