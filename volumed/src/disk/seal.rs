//! Objects put together, off the path of acknowledgements.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use log_disk::{
    BLOCK_BYTES, ObjectKind, ObjectName, Role, SealJob, SealedObject, Sealer, Source, SourceRun, seal_object,
};
use tracing::error;

use super::journal::{Journal, Place};
use super::objects::{Object, Reader, Run};
use super::store::{chain, purpose};
use crate::bulk::Workers;

/// What sealing works with. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Sealing {
    pub(super) journal: Arc<Journal>,
    pub(super) reader: Reader,
    pub(super) sealer: Arc<Sealer>,
    pub(super) workers: Workers,
}

impl Sealing {
    /// Puts an object together; `None` when what it is made of could not be read.
    ///
    /// * `objects`: those that the job reads from, in the order in which it names them.
    pub(super) async fn seal(&self, job: SealJob, objects: Vec<Object>) -> Option<SealedObject> {
        let runs = object_runs(&job, objects)?;
        let fetched = match self.reader.read_patiently(&runs, purpose::COLLECT).await {
            Ok(fetched) => fetched,
            Err(error) => {
                error!(object = job.header.seq.0, error = %chain(&error), "objects to be collected were not read");
                return None;
            }
        };
        let (journal, sealer) = (Arc::clone(&self.journal), Arc::clone(&self.sealer));
        let kind = job.header.kind;
        let sealed = self
            .workers
            .run(move || put_together(&journal, &sealer, job, fetched.into()));
        let object = sealed.await?;
        let name = ObjectName {
            role: match kind {
                ObjectKind::Data => Role::Data,
                ObjectKind::Gc => Role::Gc,
            },
            seq: object.layout.header.seq,
            epoch: object.layout.header.epoch,
        };
        self.reader.remember(name, object.layout.clone());
        Some(object)
    }
}

/// The blocks of other objects that a job takes, in its order.
fn object_runs(job: &SealJob, objects: Vec<Object>) -> Option<Vec<Run>> {
    let mut objects = objects.into_iter();
    sources(job)
        .filter_map(|run| match run.source {
            Source::Object { at, .. } => Some((at, run.blocks)),
            Source::Journal { .. } => None,
        })
        .map(|(at, blocks)| {
            let object = objects.next()?;
            Some(Run { object, at, blocks })
        })
        .collect()
}

/// Every place that a job reads, in its order.
pub(super) fn sources(job: &SealJob) -> impl Iterator<Item = &SourceRun> {
    job.runs.iter().flat_map(|run| &run.sources)
}

fn put_together(
    journal: &Journal,
    sealer: &Sealer,
    job: SealJob,
    mut fetched: VecDeque<Bytes>,
) -> Option<SealedObject> {
    let mut data = Vec::with_capacity(job.runs.len());
    for run in &job.runs {
        let mut blocks = BytesMut::with_capacity(run.sources.len().min(16) * BLOCK_BYTES);
        for part in &run.sources {
            match part.source {
                Source::Journal {
                    seq,
                    position,
                    piece,
                    skip,
                } => {
                    let place = Place {
                        seq,
                        position,
                        piece,
                        skip,
                        blocks: part.blocks,
                    };
                    match journal.read(place) {
                        Ok(read) => blocks.extend_from_slice(&read),
                        Err(unsound) => {
                            error!(seq = seq.0, error = %unsound, "journal was not read back for an upload");
                            return None;
                        }
                    }
                }
                Source::Object { .. } => blocks.extend_from_slice(&fetched.pop_front()?),
            }
        }
        data.push(blocks.freeze());
    }
    Some(seal_object(sealer, job.compression, job.header, &job.runs, &data))
}
