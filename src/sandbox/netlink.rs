//! What is asked of the kernel without a plugin (rtnetlink(7)): to switch on the loopback of a new namespace, for which CNI
//! has a plugin that costs a process, and to remove the bridge of a network that is removed, for which it has none.
//!
//! A crate for rtnetlink would be a dozen more for these two messages.

use std::io;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const IFLA_IFNAME: u16 = 3;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const IFF_UP: u32 = 1;
/// The first interface of every namespace (`LOOPBACK_IFINDEX`, linux/include/net/net_namespace.h).
const LOOPBACK: i32 = 1;

/// Switches on the loopback of the calling thread's network namespace.
pub(super) fn loopback_up() -> io::Result<()> {
    ask(&message(RTM_NEWLINK, LOOPBACK, IFF_UP, &[]))
}

/// Removes an interface by its name; none is success.
pub(super) fn remove_link(name: &str) -> io::Result<()> {
    let mut attribute = Vec::new();
    let length = u16::try_from(name.len() + 5).map_err(io::Error::other)?;
    attribute.extend(length.to_ne_bytes());
    attribute.extend(IFLA_IFNAME.to_ne_bytes());
    attribute.extend(name.as_bytes());
    attribute.push(0);
    // Attributes are aligned to four bytes.
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    match ask(&message(RTM_DELLINK, 0, 0, &attribute)) {
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENODEV as i32) => Ok(()),
        asked => asked,
    }
}

fn ask(message: &[u8]) -> io::Result<()> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    sendto(
        socket.as_raw_fd(),
        message,
        &NetlinkAddr::new(0, 0),
        MsgFlags::empty(),
    )?;
    let mut answer = [0; 512];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    acknowledged(answer.get(..length).unwrap_or_default())
}

/// `nlmsghdr`, `ifinfomsg` and attributes, in the host's byte order.
fn message(kind: u16, index: i32, flags: u32, attributes: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32 + attributes.len());
    bytes.extend(
        u32::try_from(32 + attributes.len())
            .unwrap_or_default()
            .to_ne_bytes(),
    );
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    // Sequence and port: there is one message on this socket.
    bytes.extend(1_u32.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    // Family and padding, device type.
    bytes.extend([0, 0]);
    bytes.extend(0_u16.to_ne_bytes());
    bytes.extend(index.to_ne_bytes());
    // Flags, and which of them change.
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(attributes);
    bytes
}

/// An acknowledgement is an error message with the error 0.
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok());
    let error = answer.get(16..20).and_then(|bytes| bytes.try_into().ok());
    match (kind.map(u16::from_ne_bytes), error.map(i32::from_ne_bytes)) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(error)) => Err(io::Error::from_raw_os_error(-error)),
        _ => Err(io::Error::other(
            "the kernel's answer about the loopback cannot be read",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_an_acknowledgement_an_error_or_unreadable() {
        let answer = |kind: u16, error: i32| {
            let mut bytes = vec![0; 36];
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            bytes[16..20].copy_from_slice(&error.to_ne_bytes());
            bytes
        };
        acknowledged(&answer(NLMSG_ERROR, 0)).unwrap();
        let refused = acknowledged(&answer(NLMSG_ERROR, -1)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        acknowledged(&answer(3, 0)).unwrap_err();
        acknowledged(&[]).unwrap_err();
    }
}
