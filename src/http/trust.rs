//! The peers that are trusted as proxies: addresses and networks.

use std::net::IpAddr;

use super::origin::Client;

/// The peers that are trusted. By default there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    all: bool,
    local: bool,
    networks: Vec<Network>,
}

impl Trust {
    /// Reads a list of IP addresses, networks in CIDR notation, `unix` for the peers of Unix sockets, and `*` for
    /// all peers. The error is the first invalid entry.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        let mut trust = Self::default();
        for entry in entries {
            match entry {
                "*" => trust.all = true,
                "unix" => trust.local = true,
                _ => trust.networks.push(Network::parse(entry).ok_or(entry)?),
            }
        }
        Ok(trust)
    }

    /// Whether no peer is trusted.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The same without `*`: only the listed peers.
    #[must_use]
    pub fn listed(self) -> Self {
        Self { all: false, ..self }
    }

    /// Whether this peer is trusted. One of unknown address is trusted only by `*`.
    pub fn covers(&self, client: Client) -> bool {
        self.all
            || match client {
                Client::Ip(ip, _) => self.networks.iter().any(|network| network.contains(ip)),
                Client::Local => self.local,
                Client::Unknown => false,
            }
    }
}

/// An address and the number of leading bits that count. An IPv4 address that is mapped into IPv6 is an IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let written: IpAddr = address.parse().ok()?;
        let address = written.to_canonical();
        let mapping = width(written) - width(address);
        let prefix = match prefix {
            // The standard parser takes a sign; a length never has one.
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
            None => width(written),
        };
        let network = Self { address, prefix: prefix.checked_sub(mapping)? };
        // Bits beyond the prefix are a mistake: either the address or the prefix length is wrong.
        let is_exact = prefix <= width(written) && masked(address, network.prefix) == bits(address);
        is_exact.then_some(network)
    }

    fn contains(self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        width(ip) == width(self.address) && masked(ip, self.prefix) == bits(self.address)
    }
}

const fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

// The address at the upper end of a number, so that a prefix means the same for both families.
fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn masked(ip: IpAddr, prefix: u8) -> u128 {
    bits(ip) & !u128::MAX.checked_shr(prefix.into()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust(entries: &[&'static str]) -> Trust {
        Trust::parse(entries.iter().copied()).unwrap()
    }

    fn covers(entries: &[&'static str], ip: &str) -> bool {
        trust(entries).covers(Client::Ip(ip.parse().unwrap(), Some(1)))
    }

    #[test]
    fn network_covers_what_shares_its_prefix() {
        for (network, inside, outside) in [
            ("10.0.0.1", &["10.0.0.1", "::ffff:10.0.0.1"][..], &["10.0.0.0", "10.0.0.2", "::a00:1", "::1"][..]),
            ("10.0.0.0/8", &["10.0.0.0", "10.255.255.255", "::ffff:10.9.9.9"], &["9.255.255.255", "11.0.0.0", "a00::"]),
            ("10.0.0.0/31", &["10.0.0.0", "10.0.0.1"], &["10.0.0.2"]),
            ("10.0.0.4/32", &["10.0.0.4"], &["10.0.0.5"]),
            ("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::", "2001:db8::1"]),
            ("::/0", &["::", "::1", "ffff::"], &["0.0.0.0", "::ffff:1.2.3.4"]),
            ("::1", &["::1"], &["::", "::2", "127.0.0.1"]),
            ("2001:db8::/32", &["2001:db8::", "2001:db8:ffff::1"], &["2001:db7::", "2001:db9::"]),
            ("2001:db8::/127", &["2001:db8::", "2001:db8::1"], &["2001:db8::2"]),
            ("::ffff:10.0.0.0/104", &["10.0.0.0", "10.1.2.3", "::ffff:10.1.2.3"], &["11.0.0.0", "::1"]),
            ("::ffff:10.0.0.7", &["10.0.0.7"], &["10.0.0.8"]),
        ] {
            for ip in inside {
                assert!(covers(&[network], ip), "{network} {ip}");
            }
            for ip in outside {
                assert!(!covers(&[network], ip), "{network} {ip}");
            }
        }
    }

    #[test]
    fn entry_that_is_no_network_is_named() {
        for entry in [
            "",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
            "10.0.0.0/999",
            "10.0.0",
            "10.0.0.01",
            "::/129",
            "::1/64",
            "::ffff:10.0.0.0/95",
            "fe80::1%eth0",
            "[::1]",
            "10.0.0.1:80",
            "localhost",
            "UNIX",
            "**",
            " 10.0.0.1",
            "/8",
        ] {
            assert_eq!(Trust::parse(["10.0.0.0/8", entry]), Err(entry));
        }
    }

    #[test]
    fn peers_without_address_have_words_of_their_own() {
        for (entries, local, unknown) in [
            (&[][..], false, false),
            (&["0.0.0.0/0", "::/0"], false, false),
            (&["unix"], true, false),
            (&["*"], true, true),
        ] {
            let trust = trust(entries);
            assert_eq!((trust.covers(Client::Local), trust.covers(Client::Unknown)), (local, unknown), "{entries:?}");
        }
    }

    #[test]
    fn nobody_is_trusted_by_default() {
        assert!(Trust::default().is_empty() && trust(&[]).is_empty());
        for entry in ["*", "unix", "::/0"] {
            assert!(!trust(&[entry]).is_empty());
        }
        assert!(covers(&["*"], "192.0.2.1"));
        assert_eq!(trust(&["*", "unix", "::1"]).listed(), trust(&["unix", "::1"]));
    }
}
