//! A bottomless volume's data plane: a log-structured disk, its journal on a slice of this host, its home in the bucket.
//!
//! The engine is `log-disk`, pure; here is what performs its wishes. [`serve`] is the process `volumed disk ID`: it opens the slice
//! and the store, claims the disk, and hands all to one thread, which owns engine, io_uring, slice and the NBD export; what waits for
//! the store runs beside it. The files on the host are named by [`DiskDir`], what the process is told by [`Settings`].

mod about;
mod clock;
mod control;
mod create;
mod driver;
mod family;
mod force;
mod journal;
mod map_pages;
mod metrics;
mod objects;
mod open;
mod probed;
mod process;
mod seal;
mod settings;
mod slice;
mod standing;
mod state;
mod store;
mod sys;
mod told;

pub use about::{About, AboutError, Serving, VolumeFacts};
pub use control::{Figures, Status};
pub use create::{CreateError, NewDisk, create, wrapped_key};
pub use family::{Family, FamilyError, Keyed};
pub use force::{ForceError, permit};
pub use open::{Insist, StartError};
pub use process::{DiskError, Verdict, serve};
pub use settings::{
    Changes, CompressionKind, DurabilityClass, OutageRule, RING_BYTES_MIN, Settings, SettingsError,
    SliceSettings, disk_id, volume_id,
};
pub use slice::SliceError;
pub use standing::{FoundDisk, LastOwner, LookError, Standing, find, standing};
pub use state::{DiskDir, Phase};
pub use told::{Heard, TellError, Telling};
