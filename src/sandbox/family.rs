//! The two families of addresses. A packet to one family never reaches an address of the other.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Returns the family of an address. An IPv4 address in IPv6 form (`::ffff:192.0.2.1`) counts as IPv4.
    pub(crate) fn of(ip: IpAddr) -> Self {
        if ip.to_canonical().is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }

    /// Returns the families of these addresses, each once. Returns both if there are no addresses, because then the
    /// families are unknown.
    pub(crate) fn of_all(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<Self> {
        let all = Self::ALL.into_iter();
        let found: Vec<_> = addresses.into_iter().map(Self::of).collect();
        let has = |family: &Self| found.contains(family);
        if found.is_empty() {
            all.collect()
        } else {
            all.filter(has).collect()
        }
    }
}

/// Parses a subnet into its family and its text without the bits beyond the prefix: `10.20.0.1/16` becomes
/// `10.20.0.0/16`, as iptables prints it. Returns `None` if the text is not a subnet.
pub(super) fn subnet(text: &str) -> Option<(Family, String)> {
    let (ip, prefix) = text.split_once('/')?;
    let prefix: u32 = prefix.parse().ok()?;
    match ip.parse().ok()? {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32_u32.checked_sub(prefix)?).unwrap_or(0);
            let ip = Ipv4Addr::from_bits(ip.to_bits() & mask);
            Some((Family::V4, format!("{ip}/{prefix}")))
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128_u32.checked_sub(prefix)?).unwrap_or(0);
            let ip = Ipv6Addr::from_bits(ip.to_bits() & mask);
            Some((Family::V6, format!("{ip}/{prefix}")))
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_belongs_to_the_family_that_it_reaches() {
        let of = |ip: &str| Family::of(ip.parse().unwrap());
        assert_eq!(of("192.0.2.1"), Family::V4);
        assert_eq!(of("::ffff:192.0.2.1"), Family::V4);
        assert_eq!(of("2001:db8::1"), Family::V6);
        let all = |ips: &[&str]| Family::of_all(ips.iter().map(|ip| ip.parse().unwrap()));
        assert_eq!(all(&[]), Family::ALL);
        assert_eq!(all(&["10.0.0.2", "10.0.0.3"]), [Family::V4]);
        assert_eq!(all(&["fd00::2", "10.0.0.3"]), Family::ALL);
    }

    #[test]
    fn a_subnet_is_returned_without_the_bits_beyond_its_prefix() {
        let of = |text: &str| subnet(text).map(|(family, text)| format!("{family} {text}"));
        assert_eq!(of("10.20.0.1/16").as_deref(), Some("IPv4 10.20.0.0/16"));
        assert_eq!(of("10.20.0.1/32").as_deref(), Some("IPv4 10.20.0.1/32"));
        assert_eq!(of("10.20.0.1/0").as_deref(), Some("IPv4 0.0.0.0/0"));
        assert_eq!(of("fd00:1:0:0:5::7/64").as_deref(), Some("IPv6 fd00:1::/64"));
        for bad in ["10.0.0.0", "10.0.0.0/33", "fd00::/129", "x/8", "10.0.0.0/x"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
