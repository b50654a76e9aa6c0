//! Where a server listens and who a client is: parsing and resolving, nothing opened yet.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

/// One place to listen on, as the operator wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// `HOST:PORT`; the host may be a name, an IPv4 or a bracketed IPv6 address, or empty for every IPv4 interface.
    Tcp {
        /// Name or address, without brackets.
        host: String,
        /// 0 lets the kernel choose.
        port: u16,
    },
    /// `unix:PATH`, or `unix:@NAME` for Linux's abstract names.
    Unix(PathBuf),
    /// `fd://N`: a listening socket that the parent process opened.
    Descriptor(i32),
}

/// Why a bind string was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindSyntax {
    /// There is no `:PORT` at the end.
    PortMissing,
    /// The port is not a number from 0 to 65535.
    PortMalformed,
    /// `[` without `]`, or an IPv6 address without brackets.
    BracketsMissing,
    /// `unix:` without a path.
    PathMissing,
    /// `fd://` without a number.
    DescriptorMalformed,
}

impl fmt::Display for BindSyntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PortMissing => "a port is missing: write HOST:PORT, unix:PATH or fd://N",
            Self::PortMalformed => "the port must be a number from 0 to 65535",
            Self::BracketsMissing => "an IPv6 address needs brackets: [::1]:8000",
            Self::PathMissing => "a path is missing after unix:",
            Self::DescriptorMalformed => "a descriptor number is missing after fd://",
        })
    }
}

impl Bind {
    /// Reads `HOST:PORT`, `[IPV6]:PORT`, `unix:PATH` or `fd://N`.
    pub fn parse(text: &str) -> Result<Self, BindSyntax> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() || path == "@" {
                Err(BindSyntax::PathMissing)
            } else {
                Ok(Self::Unix(PathBuf::from(path)))
            };
        }
        if let Some(number) = text.strip_prefix("fd://") {
            return match number.parse() {
                Ok(descriptor) if descriptor >= 0 => Ok(Self::Descriptor(descriptor)),
                _ => Err(BindSyntax::DescriptorMalformed),
            };
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or(BindSyntax::BracketsMissing)?;
                (host, after.strip_prefix(':').ok_or(BindSyntax::PortMissing)?)
            }
            None => text.rsplit_once(':').ok_or(BindSyntax::PortMissing)?,
        };
        if host.contains(':') && !text.starts_with('[') {
            return Err(BindSyntax::BracketsMissing);
        }
        // The standard parser takes a sign; a port never has one.
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BindSyntax::PortMalformed);
        }
        let port = port.parse().map_err(|_| BindSyntax::PortMalformed)?;
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Descriptor(number) => write!(f, "fd://{number}"),
        }
    }
}

/// The addresses that a host name stands for; `localhost` is both loopback addresses, whatever the resolver says.
pub fn resolve(host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    match host {
        "" | "*" => Ok(vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))]),
        "localhost" => {
            Ok(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))])
        }
        _ => {
            let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
            let mut addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
            addresses.sort_unstable();
            addresses.dedup();
            Ok(addresses)
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// An IP address and port.
    Ip(SocketAddr),
    /// A Unix socket: its clients have no address.
    Local,
}

impl Peer {
    /// The address, with an IPv4 client of a dual-stack socket shown as the IPv4 address that it is.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address.ip().to_canonical()),
            Self::Local => None,
        }
    }

    /// The port, if the client has one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Ip(address) => Some(address.port()),
            Self::Local => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_every_form_round_trips() {
        for text in ["127.0.0.1:8000", "[::1]:0", "localhost:80", ":9000", "unix:/run/a.sock", "unix:@name", "fd://3"] {
            assert_eq!(Bind::parse(text).map(|bind| bind.to_string()).as_deref(), Ok(text), "{text}");
        }
    }

    #[test]
    fn bind_wrong_form_says_what_is_missing() {
        for (text, problem) in [
            ("localhost", BindSyntax::PortMissing),
            ("a:+80", BindSyntax::PortMalformed),
            ("a:", BindSyntax::PortMalformed),
            ("a:65536", BindSyntax::PortMalformed),
            ("::1:80", BindSyntax::BracketsMissing),
            ("[::1:80", BindSyntax::BracketsMissing),
            ("[::1]", BindSyntax::PortMissing),
            ("unix:", BindSyntax::PathMissing),
            ("unix:@", BindSyntax::PathMissing),
            ("fd://x", BindSyntax::DescriptorMalformed),
            ("fd://-1", BindSyntax::DescriptorMalformed),
        ] {
            assert_eq!(Bind::parse(text), Err(problem), "{text}");
        }
    }

    #[test]
    fn localhost_resolves_to_both_loopbacks() {
        let addresses = resolve("localhost", 80).expect("no resolver is asked");
        assert_eq!(addresses.len(), 2);
        assert!(addresses.iter().all(|address| address.ip().is_loopback()));
    }

    #[test]
    fn peer_of_a_dual_stack_socket_is_shown_as_ipv4() {
        let mapped = SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), 5));
        assert_eq!(Peer::Ip(mapped).ip(), Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
}
