//! Where a request comes from: the peer of its connection, or the client that trusted proxies forward for.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;

/// The client of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// A client with this address, and its port where that is known.
    Ip(IpAddr, Option<u16>),
    /// A client of a Unix socket, which has no address.
    Local,
    /// A client whose address a proxy does not disclose.
    Unknown,
}

impl Display for Client {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip, _) => ip.fmt(formatter),
            Self::Local => formatter.write_str("a Unix socket"),
            Self::Unknown => formatter.write_str("an unknown client"),
        }
    }
}

/// The scheme between the client and the outermost proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// As it stands in a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that a URL without one means (RFC 9110 §4.2.1, §4.2.2).
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A field in which proxies forward facts about the client: the standard one (RFC 7239), and its predecessors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedField {
    /// Forwarded: addresses, schemes and hosts in one.
    Forwarded,
    /// X-Forwarded-For: addresses.
    For,
    /// X-Forwarded-Proto: the scheme.
    Proto,
    /// X-Forwarded-Host: what the client sent as Host.
    Host,
    /// X-Forwarded-Port: the port that the client connected to.
    Port,
    /// X-Forwarded-Prefix: the prefix of the path that the proxy removed.
    Prefix,
}

impl ForwardedField {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Forwarded, Self::For, Self::Proto, Self::Host, Self::Port, Self::Prefix];

    /// The field's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forwarded => "Forwarded",
            Self::For => "X-Forwarded-For",
            Self::Proto => "X-Forwarded-Proto",
            Self::Host => "X-Forwarded-Host",
            Self::Port => "X-Forwarded-Port",
            Self::Prefix => "X-Forwarded-Prefix",
        }
    }

    /// The field of this name, in any case.
    pub fn of(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|field| name.eq_ignore_ascii_case(field.name().as_bytes()))
    }
}

/// The origin of a request, as far as trusted proxies forward it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The client.
    pub client: Client,
    /// Its scheme; `None`: that of the listener.
    pub scheme: Option<Scheme>,
    /// The host of the client's request; `None`: the one in this request.
    pub host: Option<Vec<u8>>,
    /// The port that the client connected to; `None`: the listener's.
    pub port: Option<u16>,
    /// The prefix of the path that the outermost proxy removed, decoded; `None`: as configured.
    pub prefix: Option<Vec<u8>>,
    /// The fields that were read, with the elements that trusted proxies wrote.
    pub fields: Vec<(ForwardedField, Vec<u8>)>,
    /// Whether the request came from a trusted proxy.
    pub is_from_trusted_proxy: bool,
}

impl Origin {
    /// The origin of a request without trusted proxies.
    pub const fn of(client: Client) -> Self {
        Self {
            client,
            scheme: None,
            host: None,
            port: None,
            prefix: None,
            fields: Vec::new(),
            is_from_trusted_proxy: false,
        }
    }

    /// Whether a field is withheld from the application, which gets [`Origin::fields`] instead.
    ///
    /// Unless the peer is a trusted proxy, these are all fields that look as if a proxy had written them, such as
    /// X-Forwarded-User.
    pub fn withholds(&self, name: &[u8]) -> bool {
        const FAMILY: &[u8] = b"X-Forwarded-";
        let is_of_family = || name.get(..FAMILY.len()).is_some_and(|start| start.eq_ignore_ascii_case(FAMILY));
        ForwardedField::of(name).is_some() || !self.is_from_trusted_proxy && is_of_family()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_proxies_write_are_hidden_by_who_sent_them() {
        let stranger = Origin::of(Client::Unknown);
        let proxy = Origin { is_from_trusted_proxy: true, ..stranger.clone() };
        for known in ForwardedField::ALL.map(ForwardedField::name) {
            for name in [known.to_owned(), known.to_ascii_lowercase(), known.to_ascii_uppercase()] {
                assert!(stranger.withholds(name.as_bytes()) && proxy.withholds(name.as_bytes()), "{name}");
            }
        }
        for name in ["X-Forwarded-User", "x-forwarded-email", "X-FORWARDED-"] {
            assert!(stranger.withholds(name.as_bytes()) && !proxy.withholds(name.as_bytes()), "{name}");
        }
        for name in ["Host", "X-Forwarded", "Forwarded-For", "X-Real-IP", "", "Via"] {
            assert!(!stranger.withholds(name.as_bytes()) && !proxy.withholds(name.as_bytes()), "{name}");
        }
    }
}
