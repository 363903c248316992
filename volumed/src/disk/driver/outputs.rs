//! What the engine asks for, performed.

use std::sync::Arc;

use bytes::Bytes;
use log_disk::{Input, ObjectName, ObjectSeq, Outcome, Output, SealJob, Source};
use tracing::{error, info};

use super::{Driver, Ending, Event};
use crate::disk::objects::Object;
use crate::disk::seal::sources;
use crate::disk::store::{chain, purpose};

impl Driver {
    pub(super) fn perform(&mut self, output: Output) {
        match output {
            // A client that is told nothing asks again, whoever serves the disk then; what has failed is for it to find out.
            Output::Complete {
                outcome: Outcome::Failed,
                ..
            } if self.engine.stopped().is_some() => {}
            Output::Complete { request, outcome } => self.complete(request, outcome),
            Output::Append { seq, position, bytes } => self.append(seq, position, bytes),
            Output::Sync => self.ring.sync(super::Tag::Sync),
            Output::WriteSuperblock { superblock } => self.write_superblock(&superblock),
            Output::Read { read, request, parts } => self.read(read, request, &parts),
            Output::Seal(job) => self.seal(job),
            Output::Put { name, body } => self.put(name, body),
            Output::GetHead { asked } => {
                let bucket = self.bucket.clone();
                self.start("disk-head", async move {
                    let got = bucket.head().await;
                    input(Input::Head { asked, got })
                });
            }
            Output::PutHead { expected, body } => {
                let bucket = self.bucket.clone();
                self.start("disk-swap-head", async move {
                    let outcome = bucket.put_head(&expected, body).await;
                    input(Input::HeadPut { outcome })
                });
            }
            Output::Delete { name } => {
                self.objects.forget(name.seq);
                let bucket = self.bucket.clone();
                self.start("disk-delete", async move {
                    let done = bucket.delete(name).await;
                    input(Input::Deleted { name, done })
                });
            }
            Output::GetLayout { name } => self.layout(name),
            Output::ListPins { asked } => {
                let bucket = self.bucket.clone();
                self.start("disk-pins", async move {
                    let pins = bucket.pins().await;
                    input(Input::Pins { asked, pins })
                });
            }
            Output::Resized { size_blocks } => {
                info!(size_blocks, "grew");
                self.clients.resize(size_blocks);
            }
            Output::Stopped { why } => {
                error!(why = ?why, "stopped");
                self.ended = Some(Ending::Stopped(why));
            }
        }
    }

    fn seal(&mut self, job: SealJob) {
        let objects: Option<Vec<Object>> = sources(&job)
            .filter_map(|run| match run.source {
                Source::Object { object, .. } => Some(self.object(object)),
                Source::Journal { .. } => None,
            })
            .collect();
        let seq = job.header.seq;
        let sealing = self.sealing.clone();
        self.start("disk-seal", async move {
            let object = match objects {
                Some(objects) => sealing.seal(job, objects).await,
                None => None,
            };
            input(Input::Sealed { seq, object })
        });
    }

    fn put(&self, name: ObjectName, body: Bytes) {
        self.metrics.put(name.role, body.len());
        let bucket = self.bucket.clone();
        self.start("disk-put", async move {
            let outcome = bucket.put(name, body).await;
            input(Input::Put { name, outcome })
        });
    }

    /// Returns an object, and whose it is.
    pub(super) fn object(&self, seq: ObjectSeq) -> Option<Object> {
        let name = self.engine.object_name(seq)?;
        let sealer = Arc::clone(self.engine.sealer_of(seq));
        Some(Object { name, sealer })
    }

    fn layout(&self, name: ObjectName) {
        let sealer = Arc::clone(self.engine.sealer_of(name.seq));
        let object = Object { name, sealer };
        let reader = self.sealing.reader.clone();
        self.start("disk-front", async move {
            let front = reader.front(&object, purpose::COLLECT).await;
            if let Err(error) = &front {
                error!(object = name.seq.0, error = %chain(error), "object's front was not read");
            }
            input(Input::Layout {
                object: name.seq,
                layout: front.ok().map(|layout| layout.as_ref().clone()),
            })
        });
    }
}

fn input(input: Input) -> Event {
    Event::Input(Box::new(input))
}
