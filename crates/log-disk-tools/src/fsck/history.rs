//! What was written after the newest checkpoint.

use log_disk::{Head, ObjectName, ObjectSeq, Role};

use super::Check;
use crate::{BucketError, What};

impl Check<'_> {
    /// Follows the data objects that an owner would replay, up to the first hole.
    pub(super) fn history(&mut self, head: &Head) -> Result<(), BucketError> {
        let mut last = head
            .checkpoint
            .map_or(ObjectSeq(0), |checkpoint| checkpoint.data_seq);
        let names: Vec<ObjectName> = self
            .listed
            .objects
            .keys()
            .filter(|name| name.role == Role::Data && name.seq > last && head.counts(name.seq, name.epoch))
            .copied()
            .collect();
        for name in names {
            let Some(layout) = self.layout(name)? else {
                // What follows cannot be reached any more.
                return Ok(());
            };
            if layout.header.previous != last {
                let previous = layout.header.previous;
                self.found(name, What::Hole { previous });
                return Ok(());
            }
            let there = self.is_there(name, layout.total_bytes);
            if !there {
                return Ok(());
            }
            self.checked.mapped_blocks += layout.data_blocks();
            last = name.seq;
        }
        Ok(())
    }
}
