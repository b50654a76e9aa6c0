//! What a worker process tells another of a connection that it hands over. The version comes first: after an upgrade the two
//! processes may run different versions of this package.
//!
//! ```text
//! version  flags  listener  address        client                    scheme  idle for  input
//! u8       u8     u16       u16, text      u8, [4 or 16 bytes, u16]  u8      u64 (ms)  u16, bytes
//! ```
//! Numbers are big-endian. `flags`: 1, a response was sent; 2, a proxy's header is to come; 4, the client's port is known.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::engine::connection::idle::MAX_INPUT_BYTES;
use crate::http::origin::{Client, Scheme};

const VERSION: u8 = 1;

const IS_SERVED: u8 = 1;
const AWAITS_PROXY_HEADER: u8 = 2;
const HAS_PORT: u8 = 4;

/// More than any message has: a path is at most 108 bytes long (unix(7)), of which each may take three as text.
pub(in crate::engine) const MAX_MESSAGE_BYTES: usize = MAX_INPUT_BYTES + 1024;

/// A connection that is handed over, beside its socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct HandoverMessage {
    /// The number of the listener that it came through.
    pub listener: u16,
    /// Where that listens. The number may be another's in a process with another configuration.
    pub address: String,
    /// Who sends.
    pub client: Client,
    /// How that client speaks to its proxy, where that tells it.
    pub scheme: Option<Scheme>,
    /// It has had a response.
    pub is_served: bool,
    /// The header of a proxy is still to come.
    pub awaits_proxy_header: bool,
    /// How long it has waited for its next request.
    pub idle_for: Duration,
    /// What has come of that.
    pub input: Vec<u8>,
}

impl HandoverMessage {
    /// As bytes. `None`: a part is longer than a message may tell.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut flags = 0;
        for (is_set, flag) in [(self.is_served, IS_SERVED), (self.awaits_proxy_header, AWAITS_PROXY_HEADER)] {
            flags |= if is_set { flag } else { 0 };
        }
        let mut client = Vec::with_capacity(19);
        match self.client {
            Client::Local => client.push(0),
            Client::Unknown => client.push(1),
            Client::Ip(ip, port) => {
                match ip {
                    IpAddr::V4(ip) => {
                        client.push(4);
                        client.extend(ip.octets());
                    }
                    IpAddr::V6(ip) => {
                        client.push(6);
                        client.extend(ip.octets());
                    }
                }
                flags |= if port.is_some() { HAS_PORT } else { 0 };
                client.extend(port.unwrap_or(0).to_be_bytes());
            }
        }
        let mut message = vec![VERSION, flags];
        message.extend(self.listener.to_be_bytes());
        put_text(&mut message, self.address.as_bytes())?;
        message.extend(client);
        message.push(match self.scheme {
            None => 0,
            Some(Scheme::Http) => 1,
            Some(Scheme::Https) => 2,
        });
        message.extend(u64::try_from(self.idle_for.as_millis()).unwrap_or(u64::MAX).to_be_bytes());
        put_text(&mut message, &self.input)?;
        (message.len() <= MAX_MESSAGE_BYTES).then_some(message)
    }

    /// Reads a message. The error says why it is none.
    pub fn decode(message: &[u8]) -> Result<Self, &'static str> {
        match message.first() {
            Some(&VERSION) => Self::read(&message[1..]).ok_or("its message is malformed"),
            _ => Err("its message has an unknown version"),
        }
    }

    fn read(mut message: &[u8]) -> Option<Self> {
        let rest = &mut message;
        let flags = u8::from_be_bytes(take(rest)?);
        let listener = u16::from_be_bytes(take(rest)?);
        let address = String::from_utf8(take_text(rest)?.to_vec()).ok()?;
        let client = match u8::from_be_bytes(take(rest)?) {
            0 => Client::Local,
            1 => Client::Unknown,
            4 => with_port(Ipv4Addr::from(take::<4>(rest)?).into(), rest, flags)?,
            6 => with_port(Ipv6Addr::from(take::<16>(rest)?).into(), rest, flags)?,
            _ => return None,
        };
        let scheme = match u8::from_be_bytes(take(rest)?) {
            0 => None,
            1 => Some(Scheme::Http),
            2 => Some(Scheme::Https),
            _ => return None,
        };
        let idle_for = Duration::from_millis(u64::from_be_bytes(take(rest)?));
        let input = take_text(rest)?.to_vec();
        let (is_served, awaits_proxy_header) = (flags & IS_SERVED != 0, flags & AWAITS_PROXY_HEADER != 0);
        let has_unknown = flags & !(IS_SERVED | AWAITS_PROXY_HEADER | HAS_PORT) != 0;
        let is_whole = rest.is_empty() && !has_unknown && input.len() <= MAX_INPUT_BYTES;
        is_whole.then_some(Self { listener, address, client, scheme, is_served, awaits_proxy_header, idle_for, input })
    }
}

fn put_text(message: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    message.extend(u16::try_from(text.len()).ok()?.to_be_bytes());
    message.extend(text);
    Some(())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*taken)
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u16::from_be_bytes(take(rest)?);
    let (taken, behind) = rest.split_at_checked(length.into())?;
    *rest = behind;
    Some(taken)
}

// The client with this address and the port that stands behind it, if that is known.
fn with_port(ip: IpAddr, rest: &mut &[u8], flags: u8) -> Option<Client> {
    let port = u16::from_be_bytes(take(rest)?);
    Some(Client::Ip(ip, (flags & HAS_PORT != 0).then_some(port)))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::num::u8;

    use super::*;

    fn samples() -> Vec<HandoverMessage> {
        let plain = HandoverMessage {
            listener: 0,
            address: "http://127.0.0.1:8000".to_owned(),
            client: Client::Ip(Ipv4Addr::LOCALHOST.into(), Some(50_000)),
            scheme: None,
            is_served: true,
            awaits_proxy_header: false,
            idle_for: Duration::from_millis(1234),
            input: Vec::new(),
        };
        let unix = "unix:/run/app.sock".to_owned();
        vec![
            HandoverMessage { client: Client::Local, address: unix, listener: u16::MAX, ..plain.clone() },
            HandoverMessage { client: Client::Unknown, scheme: Some(Scheme::Https), ..plain.clone() },
            HandoverMessage {
                client: Client::Ip(Ipv6Addr::LOCALHOST.into(), None),
                scheme: Some(Scheme::Http),
                awaits_proxy_header: true,
                is_served: false,
                input: b"PROXY TCP4 ".to_vec(),
                ..plain.clone()
            },
            HandoverMessage { input: vec![b'x'; MAX_INPUT_BYTES], address: "é".repeat(150), ..plain.clone() },
            HandoverMessage { idle_for: Duration::ZERO, client: Client::Ip(Ipv4Addr::LOCALHOST.into(), None), ..plain },
        ]
    }

    #[test]
    fn message_that_is_read_is_what_was_written() {
        for sample in samples() {
            let bytes = sample.encode().unwrap();
            assert!(bytes.len() <= MAX_MESSAGE_BYTES);
            assert_eq!(HandoverMessage::decode(&bytes), Ok(sample));
        }
    }

    #[test]
    fn message_that_is_cut_or_longer_is_refused() {
        for sample in samples() {
            let bytes = sample.encode().unwrap();
            for length in 1..bytes.len() {
                assert_eq!(HandoverMessage::decode(&bytes[..length]), Err("its message is malformed"), "{length}");
            }
            let longer = [&bytes[..], b"x"].concat();
            assert_eq!(HandoverMessage::decode(&longer), Err("its message is malformed"));
        }
    }

    #[test]
    fn message_of_another_version_is_refused() {
        let bytes = samples()[0].encode().unwrap();
        for version in [0, VERSION + 1, u8::MAX] {
            let other = [&[version], &bytes[1..]].concat();
            assert_eq!(HandoverMessage::decode(&other), Err("its message has an unknown version"));
        }
        assert_eq!(HandoverMessage::decode(b""), Err("its message has an unknown version"));
    }

    #[test]
    fn message_that_is_too_large_is_not_written() {
        let sample = || samples().swap_remove(0);
        for (address, input) in [(70_000, 0), (0, 70_000), (2000, MAX_INPUT_BYTES)] {
            let large = HandoverMessage { address: "a".repeat(address), input: vec![0; input], ..sample() };
            assert_eq!(large.encode(), None, "{address} {input}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_a_verdict_and_what_is_read_is_written_alike(bytes in vec(u8::ANY, 0..300)) {
            for first in [None, Some(VERSION)] {
                let message: Vec<u8> = first.into_iter().chain(bytes.iter().copied()).collect();
                if let Ok(read) = HandoverMessage::decode(&message) {
                    proptest::prop_assert_eq!(HandoverMessage::decode(&read.encode().unwrap()), Ok(read));
                }
            }
        }

        #[test]
        fn changed_byte_gives_a_verdict(sample in 0..5_usize, at in 0..400_usize, value in u8::ANY) {
            let mut bytes = samples().swap_remove(sample).encode().unwrap();
            let at = at % bytes.len();
            bytes[at] = value;
            if let Ok(read) = HandoverMessage::decode(&bytes) {
                proptest::prop_assert_eq!(HandoverMessage::decode(&read.encode().unwrap()), Ok(read));
            }
        }
    }
}
