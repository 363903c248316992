//! Small pure choices of a launch: addresses, ports, and whether a RAM image fits.

use crate::ids::MachineId;
use crate::machine_config::Service;
use crate::record::{Forward, RamKey};

/// Whether a RAM image fits what would run now; otherwise what differs. Pure.
pub(super) fn fits(saved: &RamKey, now: &RamKey) -> Result<(), String> {
    let differs = |what: &str| Err(format!("{what} has changed since the suspension"));
    if saved.instance_id != now.instance_id {
        return differs("the machine's version");
    }
    if saved.digest != now.digest {
        return differs("the image");
    }
    if saved.vmm != now.vmm {
        return differs("the kernel, initramfs or QEMU");
    }
    if saved.accelerator != now.accelerator {
        return differs("the accelerator");
    }
    for (volume, generation) in &now.generations {
        if saved.generations.get(volume) != Some(generation) {
            return differs(&format!("the generation of volume {volume}"));
        }
    }
    if saved.generations.len() != now.generations.len() {
        return differs("the list of volumes");
    }
    Ok(())
}

fn id_bytes(id: &MachineId) -> [u8; 7] {
    let mut bytes = [0; 7];
    // A machine id is 14 hexadecimal digits by construction.
    let decoded = hex::decode_to_slice(id.as_str(), &mut bytes);
    assert!(decoded.is_ok(), "machine id {id}");
    bytes
}

/// MAC address of the interface to the world.
pub(super) fn world_mac(id: &MachineId) -> String {
    let [a, b, c, ..] = id_bytes(id);
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
}

/// A loopback address of the machine's own, so that two machines can both serve port 8080.
fn loopback_address(id: &MachineId) -> String {
    let [a, b, c, ..] = id_bytes(id);
    format!("127.{}.{b}.{}", 128 + a % 100, 1 + c % 250)
}

/// Chooses the host's ports: those of the last run where they are free, else the guest's own number, else any.
pub(super) fn choose_forwards(id: &MachineId, services: &[Service], before: &[Forward]) -> Vec<Forward> {
    let address = loopback_address(id);
    let choose = |service: &Service| {
        let former = before
            .iter()
            .find(|former| former.protocol == service.protocol && former.guest_port == service.internal_port);
        let wanted = former
            .map(|former| former.host_port)
            .unwrap_or(match service.internal_port {
                low @ 0..1024 => 20_000 + low,
                high => high,
            });
        let host_port = free_port(&service.protocol, &address, wanted)
            .or_else(|| free_port(&service.protocol, &address, 0))?;
        Some(Forward {
            protocol: service.protocol.clone(),
            guest_port: service.internal_port,
            host_address: address.clone(),
            host_port,
        })
    };
    services.iter().filter_map(choose).collect()
}

fn free_port(protocol: &str, address: &str, port: u16) -> Option<u16> {
    let bound = if protocol == "udp" {
        std::net::UdpSocket::bind((address, port)).and_then(|socket| socket.local_addr())
    } else {
        std::net::TcpListener::bind((address, port)).and_then(|socket| socket.local_addr())
    };
    bound.ok().map(|address| address.port())
}

#[cfg(test)]
mod tests;
