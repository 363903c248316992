//! The guest's interfaces, addresses and routes, through rtnetlink.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressFlags, AddressHeaderFlags};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use tokio::task::spawn_local;

use guest_init::proto::config::{AppNet, Network, UserNet};

use crate::device::{self, DeviceError};

/// Why the network is not as the host wants it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    /// No netlink.
    #[error("open netlink")]
    Open(#[source] io::Error),
    /// No such interface.
    #[error("find the interface")]
    Device(#[from] DeviceError),
    /// The kernel refused.
    #[error("{doing}")]
    Netlink {
        doing: &'static str,
        #[source]
        source: Box<rtnetlink::Error>,
    },
}

fn doing(doing: &'static str) -> impl FnOnce(rtnetlink::Error) -> NetworkError {
    move |source| NetworkError::Netlink {
        doing,
        source: Box::new(source),
    }
}

/// Sets up the loopback, with the name server's address, and the interfaces of `network`.
pub(crate) async fn set_up(network: &Network) -> Result<(), NetworkError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(NetworkError::Open)?;
    let connection = spawn_local(connection);
    let done = async {
        let loopback = index_of(&handle, "lo").await?;
        bring_up(&handle, loopback, None).await?;
        add_address(&handle, loopback, IpAddr::V6(Network::RESOLVER), 128).await?;
        if let Some(user_net) = &network.user_net {
            set_up_user_net(&handle, user_net).await?;
        }
        if let Some(app_net) = &network.app_net {
            set_up_app_net(&handle, app_net).await?;
        }
        Ok(())
    };
    let result = done.await;
    connection.abort();
    result
}

async fn set_up_user_net(handle: &Handle, net: &UserNet) -> Result<(), NetworkError> {
    let name = device::interface(&net.mac).await?;
    // QEMU's router would announce an IPv6 prefix that leads nowhere for most hosts.
    set_ipv6(&name, "disable_ipv6", "1");
    let index = index_of(handle, &name).await?;
    bring_up(handle, index, None).await?;
    add_address(handle, index, IpAddr::V4(net.address), net.prefix).await?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .gateway(net.gateway)
        .output_interface(index)
        .build();
    handle
        .route()
        .add(route)
        .execute()
        .await
        .map_err(doing("add the default route"))
}

async fn set_up_app_net(handle: &Handle, net: &AppNet) -> Result<(), NetworkError> {
    let name = device::interface(&net.mac).await?;
    // The host gives out the addresses; nothing is to be learnt or tried on this link.
    for (key, value) in [
        ("accept_ra", "0"),
        ("autoconf", "0"),
        ("accept_dad", "0"),
        ("dad_transmits", "0"),
    ] {
        set_ipv6(&name, key, value);
    }
    // Neighbours forget a former holder of the address as soon as the link is up.
    set_ipv6(&name, "ndisc_notify", "1");
    let index = index_of(handle, &name).await?;
    bring_up(handle, index, Some(net.mtu)).await?;
    add_address(handle, index, IpAddr::V6(net.address), net.prefix).await
}

async fn index_of(handle: &Handle, name: &str) -> Result<u32, NetworkError> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    let link = links.try_next().await.map_err(doing("look up an interface"))?;
    Ok(link.map_or(0, |link| link.header.index))
}

async fn bring_up(handle: &Handle, index: u32, mtu: Option<u32>) -> Result<(), NetworkError> {
    let mut message = LinkUnspec::new_with_index(index).up();
    if let Some(mtu) = mtu {
        message = message.mtu(mtu);
    }
    handle
        .link()
        .set(message.build())
        .execute()
        .await
        .map_err(doing("bring an interface up"))
}

async fn add_address(handle: &Handle, index: u32, address: IpAddr, prefix: u8) -> Result<(), NetworkError> {
    let mut request = handle.address().add(index, address, prefix);
    if address.is_ipv6() {
        // Usable at once: the host sees to it that no address is given twice.
        let message = request.message_mut();
        message.header.flags |= AddressHeaderFlags::Nodad;
        message
            .attributes
            .push(rtnetlink::packet_route::address::AddressAttribute::Flags(
                AddressFlags::Nodad,
            ));
    }
    request.execute().await.map_err(doing("add an address"))
}

fn set_ipv6(interface: &str, key: &str, value: &str) {
    let path = Path::new("/proc/sys/net/ipv6/conf").join(interface).join(key);
    let set = || {
        io::Write::write_all(
            &mut fs::File::options().write(true).open(&path)?,
            value.as_bytes(),
        )
    };
    if let Err(error) = set() {
        crate::console::say(&format!("set {} to {value}: {error}", path.display()));
    }
}
