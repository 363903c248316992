//! Reads databases and their transactions, and changes nothing.

use std::{
    fs::File,
    io::{self, BufReader},
    path::Path,
    sync::Arc,
};

use crashsafe::{Disk, RealDisk};
use ltx::{Checksum, FileName, Pgno, Pos, Version};

use super::{
    Finding,
    chain::{Link, breaks},
};
use crate::{
    db::{
        Snapshot,
        recover::{Inspected, RecoverError, inspect},
    },
    name::DatabaseName,
    replication::sender::take_snapshot,
    store::{Slot, chain},
    sys,
};

/// Looks at all databases of a data directory that no node uses.
///
/// # Errors
/// There is none.
pub fn directory(root: &Path) -> io::Result<Vec<Finding>> {
    let databases = root.join("dbs");
    let mut names: Vec<DatabaseName> = RealDisk
        .list(&databases)?
        .into_iter()
        .filter(|entry| entry.is_dir)
        .filter_map(|entry| entry.name.parse().ok())
        .collect();
    names.sort();
    let at_rest = |name: &DatabaseName| at_rest(name.as_str(), &databases.join(name.as_str()));
    Ok(names.iter().map(at_rest).collect())
}

fn at_rest(name: &str, directory: &Path) -> Finding {
    let mut finding = Finding::of(name);
    match File::open(directory.join("database")) {
        Ok(file) if sys::is_open_elsewhere(&file) => {
            finding
                .unknown
                .push("in use: ask the node that runs, with -url".to_owned());
            return finding;
        }
        Ok(_) | Err(_) => {}
    }
    match inspect(Arc::new(RealDisk), directory) {
        Ok(Inspected::At(pos)) => {
            finding.pos = pos.to_string();
            transactions(&mut finding, directory, pos);
        }
        Ok(Inspected::Unfinished) => finding
            .unknown
            .push("a transaction was interrupted: the next start finishes it or takes it back".to_owned()),
        Err(error) => {
            let said = chain(&error);
            match error {
                RecoverError::Disk(_) => finding.unknown.push(said),
                _ => finding.damage.push(said),
            }
        }
    }
    finding
}

/// Looks at a database of a node that runs, while others write.
pub fn served(slot: &Slot, give_up: &dyn Fn() -> bool) -> Finding {
    let mut finding = Finding::of(slot.name().as_str());
    match take_snapshot(slot, give_up) {
        Ok(Some(snapshot)) => {
            let pos = snapshot.pos();
            finding.pos = pos.to_string();
            match sum(snapshot) {
                Ok(found) if found == pos.checksum || pos == Pos::ZERO => {}
                Ok(found) => finding.damage.push(format!("its pages add up to {found}")),
                Err(error) => finding.unknown.push(error.to_string()),
            }
            transactions(&mut finding, slot.directory(), pos);
        }
        Ok(None) => finding.unknown.push("the node stops".to_owned()),
        Err(error) => finding.damage.push(chain(&error)),
    }
    finding
}

/// Adds up what is there.
fn sum(mut snapshot: Snapshot) -> io::Result<Checksum> {
    let mut sum = Checksum::EMPTY_DATABASE;
    let Some(page_size) = snapshot.page_size() else {
        return Ok(sum);
    };
    let mut page = vec![0; page_size.as_usize()];
    for pgno in (1..=snapshot.pages()).filter_map(Pgno::new) {
        snapshot.read(pgno, &mut page)?;
        if pgno != page_size.lock_page() {
            sum = sum.toggle(Checksum::of_page(pgno, &page));
        }
    }
    Ok(sum)
}

/// Reads all LTX files up to a position. Old ones may be removed meanwhile.
fn transactions(finding: &mut Finding, directory: &Path, pos: Pos) {
    let ltx = directory.join("ltx");
    let mut names: Vec<FileName> = match RealDisk.list(&ltx) {
        Ok(entries) => entries
            .iter()
            .filter_map(|entry| entry.name.parse::<FileName>().ok())
            .filter(|name| name.max <= pos.txid)
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return finding.unknown.push(format!("ltx: {error}")),
    };
    names.sort_by_key(|name| (name.max, name.min));
    let (mut links, mut unsound) = (Vec::new(), Vec::new());
    for name in names {
        let file = match File::open(ltx.join(name.to_string())) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // The oldest go first: what was read before is gone too.
                links.clear();
                unsound.clear();
                continue;
            }
            Err(error) => {
                finding.unknown.push(format!("{name}: {error}"));
                continue;
            }
        };
        match ltx::verify(BufReader::new(file), Version::V1) {
            Ok(decoded) => links.push(Link {
                name,
                header: decoded.header,
                after: decoded.pos,
            }),
            Err(error) => unsound.push(format!("{name}: {}", chain(&error))),
        }
    }
    finding.ltx_files = links.len() + unsound.len();
    finding
        .damage
        .extend(breaks(links, pos).iter().map(ToString::to_string));
    finding.damage.append(&mut unsound);
}
