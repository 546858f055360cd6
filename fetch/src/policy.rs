//! Which addresses may be connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use url::{Host, Url};

use crate::error::Problem;

/// Networks that are refused unless the settings say otherwise: those that lead to metadata
/// services of clouds, to everyone, or to nobody.
const REFUSED: [&str; 9] = [
    "0.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "255.255.255.255/32",
    "100.100.100.200/32",
    "::/128",
    "fe80::/10",
    "ff00::/8",
    "fd00:ec2::254/128",
];

/// Names under which metadata services are known, refused where the address cannot be seen.
const METADATA_NAMES: [&str; 3] = ["metadata", "metadata.google.internal", "metadata.goog"];

/// The address to which the names of metadata services lead.
const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));

/// Which addresses may be connected to: all that are not refused, and the exceptions.
#[derive(Debug, Clone)]
pub struct AddressPolicy {
    /// Networks that are refused.
    pub refused: Vec<IpNet>,
    /// Exceptions: networks that are allowed though a refused one contains them.
    pub allowed: Vec<IpNet>,
}

impl Default for AddressPolicy {
    /// Refuses link-local (cloud metadata), multicast, broadcast and unspecified addresses;
    /// private and loopback ones stay reachable.
    fn default() -> Self {
        let refused = REFUSED.iter().filter_map(|net| net.parse().ok()).collect();
        Self {
            refused,
            allowed: Vec::new(),
        }
    }
}

impl AddressPolicy {
    /// The network that refuses the address, if one does. An IPv6 address that carries an IPv4
    /// one is judged as both.
    pub fn refusing(&self, address: IpAddr) -> Option<IpNet> {
        let embedded = match address {
            IpAddr::V6(v6) => embedded_v4(v6).map(IpAddr::V4),
            IpAddr::V4(_) => None,
        };
        [Some(address), embedded]
            .into_iter()
            .flatten()
            .find_map(|address| {
                if self.allowed.iter().any(|net| net.contains(&address)) {
                    return None;
                }
                self.refused
                    .iter()
                    .find(|net| net.contains(&address))
                    .copied()
            })
    }

    /// Refuses a URL whose host is a literal address of a refused network. Names are judged
    /// when they are resolved.
    pub(crate) fn check_literal(&self, url: &Url) -> Result<(), Problem> {
        let address = match url.host() {
            Some(Host::Ipv4(v4)) => IpAddr::V4(v4),
            Some(Host::Ipv6(v6)) => IpAddr::V6(v6),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        self.check(url.host_str().unwrap_or_default(), address)
    }

    /// Refuses the address of a host if it lies in a refused network.
    pub(crate) fn check(&self, host: &str, address: IpAddr) -> Result<(), Problem> {
        match self.refusing(address) {
            Some(net) => Err(Problem::Refused {
                host: host.to_owned(),
                address,
                network: net.to_string(),
            }),
            None => Ok(()),
        }
    }

    /// Refuses the known names of metadata services, for URLs that a proxy will resolve.
    pub(crate) fn check_name(&self, url: &Url) -> Result<(), Problem> {
        let Some(host) = url.host_str() else {
            return Ok(());
        };
        let name = host.trim_end_matches('.');
        if METADATA_NAMES.contains(&name) && self.refusing(METADATA).is_some() {
            return Err(Problem::RefusedName(host.to_owned()));
        }
        Ok(())
    }
}

/// The IPv4 address within an IPv6 one: mapped (`::ffff:0:0/96`), compatible (`::/96`),
/// translated (`64:ff9b::/96`) or 6to4 (`2002::/16`).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    if address.is_loopback() || address.is_unspecified() {
        return None;
    }
    let s = address.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => Some(join(high, low)),
        [0, 0, 0, 0, 0xffff, 0, high, low] => Some(join(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(join(high, low)),
        [0x2002, high, low, ..] => Some(join(high, low)),
        _ => None,
    }
}

/// Whether the host is this machine: a loopback address or the name `localhost`.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(v4)) => v4.is_loopback(),
        Some(Host::Ipv6(v6)) => {
            v6.is_loopback() || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback())
        }
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> bool {
        AddressPolicy::default()
            .check_literal(&Url::parse(url).unwrap())
            .is_err()
    }

    #[test]
    fn all_default_networks_parse() {
        assert_eq!(AddressPolicy::default().refused.len(), REFUSED.len());
    }

    #[test]
    fn metadata_is_refused_in_every_spelling() {
        for host in [
            "169.254.169.254",
            "2852039166",
            "0xa9fea9fe",
            "0251.0376.0251.0376",
            "169.254.43518",
            "169.254.169.254.",
            "[::ffff:169.254.169.254]",
            "[::ffff:a9fe:a9fe]",
            "[::169.254.169.254]",
            "[64:ff9b::a9fe:a9fe]",
            "[2002:a9fe:a9fe::1]",
            "[fe80::1]",
            "[fd00:ec2::254]",
            "0.0.0.0",
            "0",
            "[::]",
            "[ff02::1]",
            "224.0.0.1",
        ] {
            assert!(refused(&format!("http://{host}/x")), "{host}");
        }
    }

    #[test]
    fn private_and_loopback_are_reachable() {
        for host in [
            "127.0.0.1",
            "[::1]",
            "10.0.0.1",
            "192.168.1.1",
            "[fd12::1]",
            "8.8.8.8",
        ] {
            assert!(!refused(&format!("http://{host}/")), "{host}");
        }
    }

    #[test]
    fn exceptions_are_allowed() {
        let mut policy = AddressPolicy::default();
        policy.allowed.push("169.254.1.0/24".parse().unwrap());
        assert_eq!(policy.refusing("169.254.1.9".parse().unwrap()), None);
        assert!(policy.refusing("169.254.2.9".parse().unwrap()).is_some());
        // What is carried inside is judged too.
        policy.allowed.push("::/0".parse().unwrap());
        assert!(
            policy
                .refusing("::ffff:169.254.2.9".parse().unwrap())
                .is_some()
        );
    }

    #[test]
    fn names_of_this_machine() {
        for (url, own) in [
            ("http://localhost:1/", true),
            ("http://a.localhost./", true),
            ("http://127.9.9.9/", true),
            ("http://[::ffff:127.0.0.1]/", true),
            ("http://localhost.example/", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), own, "{url}");
        }
    }
}
