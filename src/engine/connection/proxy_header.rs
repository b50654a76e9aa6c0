//! What proxies tell of a client: the PROXY protocol ahead of a connection, and the fields of a request.

use crate::engine::options::Options;
use crate::http::head::RequestHead;
use crate::http::origin::{Client, Origin, Scheme};
use crate::http::reject::Reject;
use crate::net::address::Peer;
use crate::net::proxy_protocol::{Header, Source};

impl From<Peer> for Client {
    fn from(peer: Peer) -> Self {
        match (peer.ip(), peer.port()) {
            (Some(ip), port) => Self::Ip(ip, port),
            (None, _) => Self::Local,
        }
    }
}

/// `Origins::origin`: whose request it is, where proxies may tell. `client` and `scheme` are those of the connection.
pub(in crate::engine) fn find_origin(
    options: &Options,
    request: &RequestHead,
    client: Client,
    scheme: Option<Scheme>,
) -> Result<Option<Box<Origin>>, Reject> {
    let Some(origins) = &options.origins else { return Ok(None) };
    Ok(Some(Box::new(origins.origin(request, client, scheme)?)))
}

/// Whose request it is, for the record of one that was refused: as far as its head tells.
pub(in crate::engine) fn find_client(
    options: &Options,
    request: Option<&RequestHead>,
    client: Client,
    scheme: Option<Scheme>,
) -> Client {
    let origin = request.map(|head| find_origin(options, head, client, scheme));
    origin.and_then(Result::ok).flatten().map_or(client, |origin| origin.client)
}

/// What a proxy tells of its connection: the client, in place of its own address, and the scheme.
pub(in crate::engine) fn told(header: &Header, proxy: Client) -> (Client, Option<Scheme>) {
    let client = match header.source {
        Source::Ip(address) => Peer::Ip(address).into(),
        // Not the proxy's: its word would count for what the client sends.
        Source::Unknown => Client::Unknown,
        Source::Proxy => proxy,
    };
    (client, header.tls.then_some(Scheme::Https))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::engine::context::ShardContext;
    use crate::engine::report::Reports;
    use crate::engine::scheduling::capacity::Capacity;
    use crate::engine::testkit::doubles::Notebook;
    use crate::engine::transport::spool::Budget;
    use crate::http::trust::Trust;
    use crate::net::proxy_protocol::AcceptedVersion;

    fn context(trusted: &[&'static str], proxy_protocol: Option<AcceptedVersion>) -> (ShardContext, Arc<Notebook>) {
        let trusted = Trust::parse(trusted.iter().copied()).unwrap();
        let options = Options { trusted, proxy_protocol, ..Options::default() };
        let notebook = Arc::<Notebook>::default();
        let reports = Arc::new(Reports::new(Arc::clone(&notebook) as _));
        let (capacity, spool) = (Arc::new(Capacity::new(1, 1)), Arc::new(Budget::new(0, 0, 0)));
        (ShardContext::new(0, Arc::new(options), capacity, spool, reports, Arc::new([])), notebook)
    }

    fn peer(text: &str) -> Peer {
        Peer::Ip(text.parse().unwrap())
    }

    #[test]
    fn only_trusted_peers_are_admitted_behind_the_proxy_protocol() {
        let now = Instant::now();
        for (trusted, yes, no) in [
            (
                &["10.0.0.0/8"][..],
                vec![peer("10.0.0.1:5"), peer("[::ffff:10.0.0.1]:5")],
                vec![peer("[::1]:5"), Peer::Local],
            ),
            (&["unix"], vec![Peer::Local], vec![peer("127.0.0.1:1")]),
            (&["*"], vec![Peer::Local, peer("127.0.0.1:1")], vec![]),
        ] {
            let (behind, _) = context(trusted, Some(AcceptedVersion::Any));
            let (open, _) = context(trusted, None);
            assert!(yes.iter().all(|peer| behind.admits(*peer, now)), "{trusted:?}");
            assert!(no.iter().all(|peer| !behind.admits(*peer, now)), "{trusted:?}");
            assert!(yes.iter().chain(&no).all(|peer| open.admits(*peer, now)), "{trusted:?}");
        }
    }

    #[test]
    fn closed_connections_are_reported_now_and_then() {
        let (context, notebook) = context(&["10.0.0.0/8"], Some(AcceptedVersion::V1));
        let now = Instant::now();
        for seconds in [0, 1, 59, 60, 61] {
            assert!(!context.admits(peer("192.0.2.1:80"), now + Duration::from_secs(seconds)));
        }
        let expected = "a connection from 192.0.2.1 was closed: with proxy_protocol, trusted_proxies must cover it";
        assert_eq!(*notebook.0.lock().unwrap(), [expected; 2]);
    }
}
