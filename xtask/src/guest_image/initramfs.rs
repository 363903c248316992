//! The initramfs of every guest: `guest-init`, modules with their orders, tools with their libraries.

use super::modules::Modules;
use anyhow::Result;
use guest_boot::{Archive, HostFile};

/// Counts changes of what goes where.
pub(super) const LAYOUT: u32 = 1;

/// Returns the archive.
pub(super) fn build(init: &[u8], modules: &Modules, tools: &[HostFile]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.program("init", init);
    add(&mut archive, modules, tools);
    Ok(archive.build()?)
}

/// Adds what all guests have but PID 1.
pub(super) fn add(archive: &mut Archive, modules: &Modules, tools: &[HostFile]) {
    for (name, bytes) in &modules.files {
        archive.file(&format!("lib/modules/{name}"), bytes);
    }
    for (group, names) in &modules.orders {
        let text: String = names.iter().map(|name| format!("{name}\n")).collect();
        archive.file(&format!("lib/modules/{group}"), text.as_bytes());
    }
    for tool in tools {
        archive.program(&tool.path.to_string_lossy(), &tool.bytes);
    }
    archive.system_directories();
}
