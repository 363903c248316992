//! Answers that describe a file.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

use fuser::{BackingId, FileHandle, FopenFlags, Generation, ReplyAttr, ReplyCreate};

use super::Mount;
use crate::{
    fuse::{
        attributes::{NOT_VALID, is_index, validity},
        files::OpenFile,
        inodes::ROOT,
    },
    name::MountName,
};

impl Mount {
    /// How a file is opened, and what the kernel reads and writes instead, if it can.
    pub(super) fn passthrough(
        &self,
        target: &MountName,
        file: &OpenFile,
        make: impl FnOnce(&std::fs::File) -> io::Result<BackingId>,
    ) -> Option<Arc<BackingId>> {
        if !is_index(target) || !self.passthrough.load(Ordering::Relaxed) {
            return None;
        }
        file.backing(make)
    }
}

pub(super) fn attributes_reply(mount: &Arc<Mount>, number: u64, handle: Option<u64>, reply: ReplyAttr) {
    match mount.attributes_of(number, handle) {
        Ok((_, attributes)) if number == ROOT => reply.attr(&NOT_VALID, &attributes),
        Ok((target, attributes)) => reply.attr(&validity(&target), &attributes),
        Err(error) => reply.error(error),
    }
}

pub(super) fn created_reply(mount: &Arc<Mount>, name: &str, reply: ReplyCreate) {
    let (target, attributes) = match mount.look_up(name) {
        Ok(found) => found,
        Err(error) => return reply.error(error),
    };
    let opened = mount.open(attributes.ino.0);
    let (handle, file, _) = match opened {
        Ok(opened) => opened,
        Err(error) => return reply.error(error),
    };
    let index = is_index(&target) && mount.passthrough.load(Ordering::Relaxed);
    let backing = file
        .filter(|_| index)
        .and_then(|file| file.backing(|file| reply.open_backing(file)));
    let (handle, generation) = (FileHandle(handle), Generation(0));
    match backing {
        Some(backing) => reply.created_passthrough(
            &validity(&target),
            &attributes,
            generation,
            handle,
            FopenFlags::empty(),
            &backing,
        ),
        None => reply.created(
            &validity(&target),
            &attributes,
            generation,
            handle,
            FopenFlags::FOPEN_KEEP_CACHE,
        ),
    }
}
