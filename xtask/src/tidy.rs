//! `cargo xtask tidy`: house rules that no compiler checks. Style is a test.

mod rules;
#[cfg(test)]
mod tests;

use crate::shell;
use anyhow::{Result, bail};
use std::{path::Path, process::Command};

/// Checks every file that git tracks or would track, and lists each breach as `file:line: what to do`.
pub(crate) fn run() -> Result<()> {
    let root = shell::root();
    let mut git = Command::new("git");
    git.current_dir(&root)
        .args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let listing = shell::output(&mut git)?;
    let files = listing
        .lines()
        .filter(|path| root.join(path).is_file())
        .map(|path| read(&root, path));
    let files: Vec<rules::File> = files.collect::<Result<_>>()?;
    let breaches = rules::check(&files);
    for breach in &breaches {
        eprintln!("{breach}");
    }
    match breaches.len() {
        0 => Ok(()),
        n => bail!("{n} breaches of the house rules"),
    }
}

fn read(root: &Path, path: &str) -> Result<rules::File> {
    let bytes = std::fs::read(root.join(path))?;
    Ok(rules::File {
        path: path.to_owned(),
        bytes,
    })
}
