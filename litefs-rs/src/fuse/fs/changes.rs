//! Files that are made, and cut.

use std::sync::{Arc, atomic::Ordering};

use fuser::{Errno, FileHandle, FopenFlags, Generation, ReplyAttr, ReplyCreate};

use super::{Cost, Mount};
use crate::{
    db::{Role, files::FileKind},
    fuse::{
        attributes::{NOT_VALID, is_index, validity},
        errno,
        inodes::ROOT,
    },
    name::MountName,
    store::Slot,
};

impl Mount {
    pub(super) fn create_file(self: &Arc<Self>, name: &str, target: &MountName, reply: ReplyCreate) {
        let mount = self;
        match target {
            MountName::Database(database) => match mount.store.get(database) {
                Some(slot) => self.create_in(&slot, FileKind::Database, name.to_owned(), reply),
                None => {
                    // Its directory is made durable: that takes its time.
                    let (mount, database, name) = (Arc::clone(self), database.clone(), name.to_owned());
                    self.elsewhere
                        .queue(move |()| match mount.store.get_or_create(&database) {
                            Ok(slot) => mount.create_in(&slot, FileKind::Database, name, reply),
                            Err(error) => reply.error(errno::of_io(&error)),
                        });
                }
            },
            MountName::SideFile(database, file) => match mount.store.get(database) {
                Some(slot) if *file == FileKind::RollbackJournal && !mount.store.may_write(&slot) => {
                    reply.error(Errno::EACCES);
                }
                Some(slot) => self.create_in(&slot, *file, name.to_owned(), reply),
                None => reply.error(Errno::ENOENT),
            },
            MountName::SuperJournal(_) if mount.store.role() == Role::Primary => {
                let created = mount.path(target).map(|path| {
                    let mut options = std::fs::File::options();
                    options
                        .read(true)
                        .write(true)
                        .create(true)
                        .truncate(false)
                        .open(path)
                });
                match created {
                    Some(Ok(_)) => created_reply(mount, name, reply),
                    Some(Err(error)) => reply.error(errno::of_io(&error)),
                    None => reply.error(Errno::EIO),
                }
            }
            // Never "not implemented": the kernel would not ask again, whatever the name.
            MountName::SuperJournal(_)
            | MountName::Lag
            | MountName::Primary
            | MountName::Pos(_)
            | MountName::Lock(_) => reply.error(Errno::EACCES),
        }
    }

    fn create_in(self: &Arc<Self>, slot: &Arc<Slot>, file: FileKind, name: String, reply: ReplyCreate) {
        let mount = Arc::clone(self);
        self.act(
            slot,
            |_| Cost::Quick,
            move |_, slot, state| match mount.store.with(slot, state, |database| database.create(file)) {
                Ok(()) => created_reply(&mount, &name, reply),
                Err(refusal) => reply.error(errno::of(&refusal)),
            },
        );
    }

    pub(super) fn truncate(self: &Arc<Self>, number: u64, handle: Option<u64>, len: u64, reply: ReplyAttr) {
        let mount = self;
        let (target, unlinked) = match mount.target(number) {
            Ok(target) => target,
            Err(error) => return reply.error(error),
        };
        let by_itself = unlinked || is_index(&target) || matches!(target, MountName::SuperJournal(_));
        let Some((slot, file)) = mount.file_of(&target).filter(|_| !by_itself) else {
            let open = mount.handles.open_file(number);
            let open = open.map_or_else(
                || {
                    let path = mount.path(&target).filter(|_| !unlinked);
                    path.map(|path| mount.handles.file(number, &path))
                },
                |file| Some(Ok(file)),
            );
            return match open {
                Some(Ok(file)) => match file.file.set_len(len) {
                    Ok(()) => attributes_reply(mount, number, handle, reply),
                    Err(error) => reply.error(errno::of_io(&error)),
                },
                Some(Err(error)) => reply.error(errno::of_io(&error)),
                None => reply.error(Errno::EACCES),
            };
        };
        let owned = Arc::clone(mount);
        mount.act(
            &slot,
            |_| Cost::Slow,
            move |mount, slot, state| match mount.store.check_write(slot, state, file).and_then(|()| {
                mount
                    .store
                    .with(slot, state, |database| database.truncate(file, len))
            }) {
                Ok(()) => attributes_reply(&owned, number, handle, reply),
                Err(refusal) => reply.error(errno::of(&refusal)),
            },
        );
    }
}

pub(super) fn attributes_reply(mount: &Arc<Mount>, number: u64, handle: Option<u64>, reply: ReplyAttr) {
    match mount.attributes_of(number, handle) {
        Ok((_, attributes)) if number == ROOT => reply.attr(&NOT_VALID, &attributes),
        Ok((target, attributes)) => reply.attr(&validity(&target), &attributes),
        Err(error) => reply.error(error),
    }
}

fn created_reply(mount: &Arc<Mount>, name: &str, reply: ReplyCreate) {
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
