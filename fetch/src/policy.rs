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

/// Networks of this machine and of the places where it stands, refused by those who say so.
const PRIVATE: [&str; 7] = [
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "::1/128",
    "fc00::/7",
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
    /// Exceptions: names of hosts that are allowed whatever their addresses are; in lower case.
    pub allowed_hosts: Vec<String>,
}

impl Default for AddressPolicy {
    /// Refuses link-local (cloud metadata), multicast, broadcast and unspecified addresses;
    /// private and loopback ones stay reachable.
    fn default() -> Self {
        let refused = REFUSED.iter().filter_map(|net| net.parse().ok()).collect();
        Self {
            refused,
            allowed: Vec::new(),
            allowed_hosts: Vec::new(),
        }
    }
}

impl AddressPolicy {
    /// Refuses private and loopback addresses as well.
    pub fn without_private(mut self) -> Self {
        let private = PRIVATE.iter().filter_map(|net| net.parse::<IpNet>().ok());
        self.refused.extend(private);
        self
    }

    /// Adds exceptions: networks, addresses, and names of hosts, with commas between them.
    ///
    /// # Errors
    /// One of them is none; the error says which.
    pub fn with_exceptions(mut self, text: &str) -> Result<Self, String> {
        let entries = text.split([',', ' ']).filter(|entry| !entry.is_empty());
        for entry in entries {
            if let Ok(net) = entry.parse::<IpNet>() {
                self.allowed.push(net);
            } else if let Ok(address) = entry.parse::<IpAddr>() {
                self.allowed.push(address.into());
            } else if is_name(entry) {
                self.allowed_hosts.push(entry.to_ascii_lowercase());
            } else {
                return Err(format!(
                    "{entry:?} is no network, address or name of a host; expected such as 10.1.0.0/16, 127.0.0.1 \
                     or backend"
                ));
            }
        }
        Ok(self)
    }

    /// Lets the host of a URL be connected to, whatever its address is.
    pub fn with_host_of(mut self, url: &str) -> Self {
        let host = Url::parse(url)
            .ok()
            .and_then(|url| url.host().map(|host| host.to_owned()));
        match host {
            Some(Host::Domain(name)) => self
                .allowed_hosts
                .push(name.trim_end_matches('.').to_owned()),
            Some(Host::Ipv4(address)) => self.allowed.push(IpAddr::V4(address).into()),
            Some(Host::Ipv6(address)) => self.allowed.push(IpAddr::V6(address).into()),
            None => {}
        }
        self
    }

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
        let name = host.trim_end_matches('.');
        if self.allowed_hosts.iter().any(|allowed| allowed == name) {
            return Ok(());
        }
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

/// Whether a text may be the name of a host, and is not meant to be an address.
fn is_name(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let last = text.rsplit('.').next().unwrap_or_default();
    text.chars().all(is_plain)
        && !last.is_empty()
        && !last.bytes().all(|byte| byte.is_ascii_digit())
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
    fn private_and_loopback_are_refused_where_that_is_said() {
        let policy = AddressPolicy::default()
            .without_private()
            .with_exceptions("10.1.0.0/16, 192.168.7.7,Backend")
            .unwrap();
        let is_refused = |url: &str| policy.check_literal(&Url::parse(url).unwrap()).is_err();
        for host in [
            "127.0.0.1",
            "127.1",
            "[::1]",
            "[::ffff:10.0.0.1]",
            "10.2.0.1",
            "172.31.0.1",
            "192.168.7.8",
            "100.64.0.1",
            "[fd12::1]",
            "169.254.169.254",
        ] {
            assert!(is_refused(&format!("http://{host}/")), "{host}");
        }
        for host in ["8.8.8.8", "10.1.2.3", "192.168.7.7", "172.32.0.1"] {
            assert!(!is_refused(&format!("http://{host}/")), "{host}");
        }
        let private = "10.9.9.9".parse().unwrap();
        assert!(policy.check("backend", private).is_ok());
        assert!(policy.check("backend.", private).is_ok());
        assert!(policy.check("other", private).is_err());
    }

    #[test]
    fn the_host_of_a_url_may_be_an_exception() {
        for (url, other) in [
            ("http://10.0.0.1:8080/keys", "http://10.0.0.2/"),
            ("http://[::1]/keys", "http://[fd00::1]/"),
        ] {
            let policy = AddressPolicy::default().without_private().with_host_of(url);
            assert!(policy.check_literal(&Url::parse(url).unwrap()).is_ok());
            assert!(policy.check_literal(&Url::parse(other).unwrap()).is_err());
        }
        let named = AddressPolicy::default().without_private();
        let named = named.with_host_of("http://Keycloak:8080/keys");
        assert!(named.check("keycloak", "10.0.0.1".parse().unwrap()).is_ok());
    }

    #[test]
    fn wrong_exceptions_are_named() {
        for wrong in [
            "10.0.0.0/33",
            "10.0.0.300",
            "http://backend",
            "a:80",
            "1.2.3",
            "x.",
        ] {
            let text = format!("10.0.0.0/8,{wrong}");
            let error = AddressPolicy::default().with_exceptions(&text).unwrap_err();
            assert!(error.contains(&format!("{wrong:?}")), "{error}");
        }
        assert!(AddressPolicy::default().with_exceptions("").is_ok());
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
