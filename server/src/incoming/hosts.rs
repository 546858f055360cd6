//! Which hosts are served. A page on another host must not reach a runner on a loopback address by a name of
//! its own that it lets resolve to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which hosts requests may be made to.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    /// By which the runner is known, with or without a port.
    known: Vec<String>,
    /// The only ones beside those, and loopback; `None` for addresses and names without a dot.
    listed: Option<Vec<String>>,
}

impl Hosts {
    /// The runner is `known` by some names; `listed` are the others that are served, with commas between them:
    /// `example.org`, `*.example.org`, or `*` for all. Where none is listed, addresses and names without a dot
    /// are served.
    ///
    /// # Errors
    /// One of them is no host; the error says which.
    pub fn new(known: Vec<String>, listed: &str) -> Result<Self, String> {
        let entries: Vec<String> = listed
            .split([',', ' '])
            .filter(|entry| !entry.is_empty())
            .map(str::to_ascii_lowercase)
            .collect();
        for entry in &entries {
            let name = entry.strip_prefix("*.").unwrap_or(entry);
            if entry != "*" && parse(name).is_none() {
                return Err(format!(
                    "{entry:?} is no host; expected such as example.org, *.example.org, 10.0.0.1:8080 or *"
                ));
            }
        }
        Ok(Self {
            known,
            listed: (!entries.is_empty()).then_some(entries),
        })
    }

    /// Whether a `Host` is served.
    pub(crate) fn serves(&self, host: &str) -> bool {
        let Some(parsed) = parse(host) else {
            return false;
        };
        let is = |known: &str| {
            known.eq_ignore_ascii_case(host) || known.eq_ignore_ascii_case(parsed.name)
        };
        if self.known.iter().any(|known| is(known)) || parsed.is_loopback() {
            return true;
        }
        let Some(listed) = &self.listed else {
            return parsed.address.is_some() || !parsed.name.contains('.');
        };
        listed.iter().any(|entry| match entry.strip_prefix('*') {
            Some("") => true,
            // What remains begins with a dot.
            Some(domain) => {
                let name = parsed.name.to_ascii_lowercase();
                name.len() > domain.len() && name.ends_with(domain)
            }
            None => is(entry),
        })
    }

    /// Which hosts are served, for those who asked another.
    pub(crate) fn explained(&self) -> &'static str {
        match self.listed {
            Some(_) => "ALLOWED_HOSTS, SERVER_NAME and PUBLIC_URL say which are.",
            None => {
                "Without SERVER_NAME these are: IP addresses, localhost, and names without a dot."
            }
        }
    }
}

/// A host as it is named in a request.
struct Host<'a> {
    /// Without the port.
    name: &'a str,
    address: Option<IpAddr>,
}

impl Host<'_> {
    fn is_loopback(&self) -> bool {
        let name = self.name;
        match self.address {
            Some(address) => address.is_loopback(),
            None => name == "localhost" || name.ends_with(".localhost"),
        }
    }
}

/// A name or an address, with a port or without, or nothing.
fn parse(host: &str) -> Option<Host<'_>> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    // A port may be left empty; a sign is none.
    let is_port = port.is_none_or(|port| {
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        is_number && (port.is_empty() || port.parse::<u16>().is_ok())
    });
    if !is_port {
        return None;
    }
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    let address = match bare {
        Some(v6) => Some(IpAddr::V6(v6.parse::<Ipv6Addr>().ok()?)),
        None => name.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_plain = !name.is_empty() && name.chars().all(is_name);
    (address.is_some() || is_plain).then_some(Host { name, address })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_list_only_what_cannot_be_rebound_is_served() {
        let hosts = Hosts::new(Vec::new(), "").unwrap();
        for host in [
            "127.0.0.1:5005",
            "[::1]:5005",
            "localhost",
            "a.localhost:1",
            "runner:8080",
            "localhost:",
            "[::1]:",
            "10.0.0.1",
        ] {
            assert!(hosts.serves(host), "{host}");
        }
        for host in [
            "evil.example.com",
            "evil.example.com:5005",
            "a b",
            "x\"",
            "h:99999",
            "h:+80",
            "h:-1",
            "h: 80",
            "h::",
            ":",
            "[x]",
            "127.0.0.1.evil.org",
            "",
        ] {
            assert!(!hosts.serves(host), "{host}");
        }
    }

    #[test]
    fn a_list_leaves_itself_loopback_and_what_the_runner_is_known_by() {
        let known = vec!["known.org:8080".to_owned()];
        let hosts = Hosts::new(known, "Example.org, *.test.org,10.0.0.1:80").unwrap();
        for host in [
            "example.org",
            "EXAMPLE.ORG:99",
            "a.test.org",
            "a.b.test.org:1",
            "10.0.0.1:80",
            "known.org:8080",
            "127.0.0.1:5005",
            "localhost",
        ] {
            assert!(hosts.serves(host), "{host}");
        }
        for host in [
            "test.org",
            ".test.org",
            "eviltest.org",
            "a.example.org",
            "10.0.0.1",
            "10.0.0.2",
            "runner",
            "known.org",
            "a b.test.org",
        ] {
            assert!(!hosts.serves(host), "{host}");
        }
        assert!(
            Hosts::new(Vec::new(), "*")
                .unwrap()
                .serves("any.example.org")
        );
        assert!(!Hosts::new(Vec::new(), "*").unwrap().serves("a b"));
    }

    #[test]
    fn what_is_no_host_is_named() {
        for wrong in ["http://example.org", "a/b", "**.org", "*x", "h:99999"] {
            let error = Hosts::new(Vec::new(), &format!("ok.org,{wrong}")).unwrap_err();
            assert!(error.contains(&format!("{wrong:?}")), "{error}");
        }
    }
}
