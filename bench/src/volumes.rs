//! `bench volumes`: local volumes beside the plain file and the plain disk, and their backups beside restic's and Borg's.

mod backups;
pub(crate) mod bottomless;
mod distant;
mod fio;
mod slices;
mod under_load;

use crate::report::Report;
use anyhow::Result;

/// Measures on daemons and directories of its own.
pub(crate) async fn run(report: &mut Report, quick: bool, peers: bool) -> Result<()> {
    slices::run(report, quick).await?;
    under_load::run(report, quick).await?;
    backups::run(report, quick, peers).await
}
