//! Requests to the kernel that need no plugin (rtnetlink(7)): to switch on the loopback of a new namespace, for which
//! CNI's plugin would cost a process; to remove the bridge of a removed network, for which CNI has no plugin; to list
//! the routes of all tables, of which /proc/net/route shows only one; and to find the maximum length of packets on the
//! way out of the host.
//!
//! A crate for rtnetlink would bring a dozen other crates for these few messages.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_METRICS: u16 = 8;
const RTAX_MTU: u16 = 2;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const IFF_UP: u32 = 1;
const AF_INET: u8 = 2;
/// The index of the loopback, the first interface of every namespace (`LOOPBACK_IFINDEX`,
/// linux/include/net/net_namespace.h).
const LOOPBACK: u32 = 1;
/// The sizes of `nlmsghdr`, `ifinfomsg` and `rtmsg`, in bytes.
const HEADER: usize = 16;
const LINK: usize = 16;
const ROUTE: usize = 12;
/// More than the kernel puts into one part of an answer (`NLMSG_GOODSIZE`, or 32 KiB if the reader's buffer has room).
const PART: usize = 64 << 10;

/// Switches on the loopback of the calling thread's network namespace.
pub(super) fn loopback_up() -> io::Result<()> {
    change(RTM_NEWLINK, &link(LOOPBACK, IFF_UP))
}

/// Removes an interface by its name. Succeeds if there is none.
pub(super) fn remove_link(name: &str) -> io::Result<()> {
    let mut body = link(0, 0);
    let mut value = name.as_bytes().to_vec();
    value.push(0);
    put(&mut body, IFLA_IFNAME, &value)?;
    match change(RTM_DELLINK, &body) {
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENODEV as i32) => Ok(()),
        asked => asked,
    }
}

/// Returns the destinations of the IPv4 routes of all tables: address and length of the prefix.
pub(super) fn routes() -> io::Result<Vec<(Ipv4Addr, u8)>> {
    let mut routes = Vec::new();
    let socket = ask(RTM_GETROUTE, NLM_F_DUMP, &route(0))?;
    let mut is_whole = false;
    while !is_whole {
        let part = part(&socket)?;
        for message in messages(&part) {
            match message? {
                (NLMSG_DONE, _) => is_whole = true,
                (RTM_NEWROUTE, body) => routes.extend(destination(body)),
                _ => {}
            }
        }
    }
    Ok(routes)
}

/// Returns the maximum length of packets to this address on the way out of this host; `None` if there is no route.
pub(super) fn mtu_to(address: Ipv4Addr) -> io::Result<Option<u32>> {
    let mut body = route(32);
    put(&mut body, RTA_DST, &address.octets())?;
    let way = match answer(RTM_GETROUTE, &body) {
        Err(error) if is_no_way(&error) => return Ok(None),
        way => way?,
    };
    let way = way.get(ROUTE..).unwrap_or_default();
    let metrics = attribute(way, RTA_METRICS).unwrap_or_default();
    let of_route = attribute(metrics, RTAX_MTU).and_then(number);
    let Some(out) = attribute(way, RTA_OIF).and_then(number) else {
        return Ok(None);
    };
    let link = answer(RTM_GETLINK, &link(out, 0))?;
    let of_link = attribute(link.get(LINK..).unwrap_or_default(), IFLA_MTU).and_then(number);
    Ok(of_route.into_iter().chain(of_link).min())
}

fn is_no_way(error: &io::Error) -> bool {
    use nix::errno::Errno;

    let none = [
        Errno::ENETUNREACH,
        Errno::EHOSTUNREACH,
        Errno::EACCES,
        Errno::EINVAL,
    ];
    let code = error.raw_os_error().map(Errno::from_raw);
    code.is_some_and(|code| none.contains(&code))
}

/// Returns the destination of a route: its address and the length of its prefix.
fn destination(body: &[u8]) -> Option<(Ipv4Addr, u8)> {
    let prefix = *body.get(1)?;
    let address = match attribute(body.get(ROUTE..)?, RTA_DST) {
        Some(address) => Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?),
        // The default route has no destination attribute.
        None => Ipv4Addr::UNSPECIFIED,
    };
    Some((address, prefix))
}

/// Builds an `ifinfomsg`: family, padding, device type, index, flags, and the mask of the flags that change.
fn link(index: u32, flags: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for number in [index, flags, flags] {
        bytes.extend(number.to_ne_bytes());
    }
    bytes
}

/// Builds an `rtmsg` of IPv4 with only the length of the destination's prefix set.
fn route(prefix: u8) -> Vec<u8> {
    let mut bytes = vec![0; ROUTE];
    for (byte, value) in bytes.iter_mut().zip([AF_INET, prefix]) {
        *byte = value;
    }
    bytes
}

/// Appends an attribute, aligned to four bytes.
fn put(body: &mut Vec<u8>, kind: u16, value: &[u8]) -> io::Result<()> {
    let length = u16::try_from(value.len() + 4).map_err(io::Error::other)?;
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
    Ok(())
}

/// Returns the value of the first attribute of this kind, if there is one.
fn attribute(mut bytes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(short(bytes, 0)?);
        if short(bytes, 2)? == kind {
            return bytes.get(4..length);
        }
        // A length below the size of its own header would loop for ever.
        bytes = bytes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_ne_bytes(bytes))
}

fn number(bytes: &[u8]) -> Option<u32> {
    let bytes = bytes.get(..4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(bytes))
}

/// Requests a change, and succeeds if the kernel has made it.
fn change(kind: u16, body: &[u8]) -> io::Result<()> {
    let socket = ask(kind, NLM_F_ACK, body)?;
    acknowledged(&part(&socket)?)
}

/// Requests one object, and returns the answer without its header.
fn answer(kind: u16, body: &[u8]) -> io::Result<Vec<u8>> {
    let socket = ask(kind, 0, body)?;
    let part = part(&socket)?;
    let first = messages(&part).next().unwrap_or_else(|| Err(unreadable()))?;
    Ok(first.1.to_vec())
}

fn ask(kind: u16, flags: u16, body: &[u8]) -> io::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    // Sequence number and port are arbitrary, because there is only one message on this socket.
    bytes.extend(1_u32.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(body);
    sendto(
        socket.as_raw_fd(),
        &bytes,
        &NetlinkAddr::new(0, 0),
        MsgFlags::empty(),
    )?;
    Ok(socket)
}

fn part(socket: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; PART];
    let length = recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty())?;
    bytes.truncate(length);
    Ok(bytes)
}

/// Returns the messages in a part of an answer, each as its kind and its body. Iteration ends after an error.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = io::Result<(u16, &[u8])>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let read = || {
            let length = usize::try_from(number(bytes)?).ok()?;
            let (kind, body) = (short(bytes, 4)?, bytes.get(HEADER..length)?);
            let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
            Some((kind, body, rest))
        };
        let Some((kind, body, rest)) = read() else {
            bytes = &[];
            return Some(Err(unreadable()));
        };
        bytes = rest;
        match number(body).map(u32::cast_signed) {
            Some(error) if kind == NLMSG_ERROR && error != 0 => {
                bytes = &[];
                Some(Err(io::Error::from_raw_os_error(-error)))
            }
            _ => Some(Ok((kind, body))),
        }
    })
}

/// Succeeds if the answer is an acknowledgement, which is an error message with the error 0.
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    match messages(answer).next() {
        Some(Ok((NLMSG_ERROR, _))) => Ok(()),
        Some(Err(error)) => Err(error),
        _ => Err(unreadable()),
    }
}

fn unreadable() -> io::Error {
    io::Error::other("the kernel's answer about interfaces or routes cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(HEADER + body.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(HEADER, 0);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn an_answer_is_an_acknowledgement_an_error_or_unreadable() {
        let answer = |kind: u16, error: i32| message(kind, &error.to_ne_bytes());
        acknowledged(&answer(NLMSG_ERROR, 0)).unwrap();
        let refused = acknowledged(&answer(NLMSG_ERROR, -1)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        acknowledged(&answer(NLMSG_DONE, 0)).unwrap_err();
        acknowledged(&[]).unwrap_err();
        acknowledged(&[1, 2, 3]).unwrap_err();
    }

    #[test]
    fn the_destinations_of_routes_are_read_wherever_they_are_in_the_message() {
        let mut body = route(16);
        put(&mut body, 15, &254_u32.to_ne_bytes()).unwrap();
        put(&mut body, RTA_DST, &[10, 143, 0, 0]).unwrap();
        put(&mut body, RTA_OIF, &7_u32.to_ne_bytes()).unwrap();
        assert_eq!(destination(&body), Some((Ipv4Addr::new(10, 143, 0, 0), 16)));
        assert_eq!(attribute(&body[ROUTE..], RTA_OIF).and_then(number), Some(7));
        assert_eq!(attribute(&body[ROUTE..], RTA_METRICS), None);
        assert_eq!(destination(&route(0)), Some((Ipv4Addr::UNSPECIFIED, 0)));
        // Two messages in one part, and a message that is cut off.
        let two = [message(RTM_NEWROUTE, &body), message(NLMSG_DONE, &[0; 4])].concat();
        let kinds: Vec<_> = messages(&two).map(|message| message.unwrap().0).collect();
        assert_eq!(kinds, [RTM_NEWROUTE, NLMSG_DONE]);
        assert!(messages(&two[..30]).next().unwrap().is_err());
        assert_eq!(attribute(&[0, 0, 9, 0], RTA_DST), None);
    }
}
