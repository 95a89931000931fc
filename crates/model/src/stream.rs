//! `tls` and `tcp` routes of a `VirtualService`: where connections go whose bytes are not looked at.

use std::fmt;
use std::net::IpAddr;

use crate::{GatewayRef, Origin, WeightedDestination};

/// One entry of `tls[]`.
#[derive(Clone, Debug)]
pub struct TlsRoute {
    /// Alternatives, at least one.
    pub matches: Vec<TlsMatch>,
    /// Chosen at random by weight, for each connection; never empty, weights sum to more than 0.
    pub destinations: Vec<WeightedDestination>,
    /// Where the entry starts.
    pub origin: Origin,
}

/// One alternative of `tls[].match[]`; all conditions must hold.
#[derive(Clone, Debug, Default)]
pub struct TlsMatch {
    /// Server names, lower-case, or wildcards; at least one.
    pub sni_hosts: Vec<String>,
    /// The other conditions.
    pub connection: TcpMatch,
}

/// One entry of `tcp[]`.
#[derive(Clone, Debug)]
pub struct TcpRoute {
    /// Alternatives (OR); empty matches everything.
    pub matches: Vec<TcpMatch>,
    /// Chosen at random by weight, for each connection; never empty, weights sum to more than 0.
    pub destinations: Vec<WeightedDestination>,
    /// Where the entry starts.
    pub origin: Origin,
}

/// Conditions on a connection; all must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpMatch {
    /// Networks of which one holds the address that the client connected to; empty is any address.
    pub destination_subnets: Vec<Subnet>,
    /// Port that the client connected to, as the configuration numbers it.
    pub port: Option<u16>,
    /// Overrides the gateways of the virtual service for this alternative.
    pub gateways: Option<Vec<GatewayRef>>,
}

/// An IP network, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subnet {
    address: IpAddr,
    prefix: u8,
}

impl Subnet {
    /// `10.0.0.0/8`, `2001:db8::/32`, or an address alone. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
            None => most,
        };
        (prefix <= most).then_some(Self { address, prefix })
    }

    /// Whether `address` is in it. An IPv4 address written as IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.prefix);
                let difference = network.to_bits() ^ address.to_bits();
                difference.checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.prefix);
                let difference = network.to_bits() ^ address.to_bits();
                difference.checked_shr(shift).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    /// The bits of an address, most significant first.
    fn bits(address: IpAddr) -> Vec<bool> {
        let bytes = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        bytes.into_iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect()
    }

    /// Addresses that often share a prefix.
    fn addresses() -> impl Strategy<Value = IpAddr> {
        let few = prop::sample::select(vec![0u32, 1, 0x8000_0000, 0x0a00_0000, 0x0a01_0203, u32::MAX]);
        prop_oneof![
            few.clone().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
            (few, any::<u32>()).prop_map(|(high, low)| {
                // Not an IPv4 address in IPv6 clothes, which has a test of its own.
                IpAddr::V6(Ipv6Addr::from_bits(1 << 127 | u128::from(high) << 64 | u128::from(low)))
            }),
        ]
    }

    proptest! {
        #[test]
        fn a_subnet_holds_what_its_bits_say(network in addresses(), address in addresses(), prefix in 0u8..=128) {
            let subnet = Subnet::parse(&format!("{network}/{prefix}"));
            prop_assert_eq!(subnet.is_some(), usize::from(prefix) <= bits(network).len());
            if let Some(subnet) = subnet {
                let prefix = usize::from(prefix);
                let same = network.is_ipv4() == address.is_ipv4()
                    && bits(network)[..prefix] == bits(address)[..prefix];
                prop_assert_eq!(subnet.contains(address), same);
            }
        }
    }

    fn holds(subnet: &str, address: &str) -> bool {
        Subnet::parse(subnet).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn a_subnet_holds_the_addresses_that_share_its_prefix() {
        assert!(holds("10.1.0.0/16", "10.1.255.3"));
        assert!(!holds("10.1.0.0/16", "10.2.0.1"));
        assert!(holds("0.0.0.0/0", "192.0.2.1"));
        assert!(holds("192.0.2.1", "192.0.2.1"));
        assert!(!holds("192.0.2.1", "192.0.2.2"));
        assert!(holds("2001:db8::/32", "2001:db8:7::1"));
        assert!(!holds("::/0", "192.0.2.1"));
        assert!(holds("10.0.0.0/8", "::ffff:10.1.2.3"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/", "10.0.0.0/+8", "a/8"] {
            assert_eq!(Subnet::parse(text), None, "{text}");
        }
    }
}
