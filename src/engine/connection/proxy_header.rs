//! The corridor's porch: behind a proxy that speaks the PROXY protocol, every connection begins with its header. What no
//! trusted proxy sent is closed, and never read as HTTP.

use std::time::Instant;

use crate::engine::connection::{Connection, Fill, Pass, Stage, Step, Turn};
use crate::http::head::RequestHead;
use crate::http::origin::{Client, Origin, Scheme};
use crate::http::reject::Reject;
use crate::net::address::Peer;
use crate::net::proxy_protocol::{self, Accepted, Source};

impl From<Peer> for Client {
    fn from(peer: Peer) -> Self {
        match (peer.ip(), peer.port()) {
            (Some(ip), port) => Self::Ip(ip, port),
            (None, _) => Self::Local,
        }
    }
}

impl Connection {
    /// `Origins::origin`: whose request it is, where proxies may tell.
    pub(in crate::engine) fn find_origin(
        &self,
        request: &RequestHead,
        now: Instant,
    ) -> Result<Option<Box<Origin>>, Reject> {
        let Some(origins) = &self.context.options.origins else { return Ok(None) };
        let origin = origins.origin(request, self.client, self.scheme);
        if let Err(reject) = &origin {
            self.context.warn_of_proxies(&format!("a request was refused: {}", reject.detail()), now);
        }
        origin.map(|origin| Some(Box::new(origin)))
    }

    /// Whose request it is, for the record of one that was refused: as far as its head tells.
    pub(in crate::engine) fn find_client(&self, request: Option<&RequestHead>) -> Client {
        let origins = self.context.options.origins.as_ref();
        let origin = origins.zip(request).map(|(origins, head)| origins.origin(head, self.client, self.scheme));
        origin.and_then(Result::ok).map_or(self.client, |origin| origin.client)
    }

    /// `proxy_protocol::parse`: from the connection's beginning to that of its first request.
    pub(in crate::engine) fn receive_proxy_header(
        mut self: Box<Self>,
        accepted: Accepted,
        turn: &mut Turn<'_>,
    ) -> Pass {
        match self.fill(turn) {
            Fill::Bytes(count) => self.input.extend_from_slice(&turn.scratch[..count]),
            Fill::Nothing => return Pass::Out(Step::Wait(self)),
            Fill::End => return Pass::Out(Step::Closed),
        }
        match proxy_protocol::parse(&self.input, accepted) {
            Ok(Some(header)) => {
                self.scheme = header.tls.then_some(Scheme::Https);
                match header.source {
                    Source::Ip(address) => self.client = Peer::Ip(address).into(),
                    // Not the proxy's: its word would count for what the client sends.
                    Source::Unknown => self.client = Client::Unknown,
                    Source::Proxy => {}
                }
                let input = std::mem::take(&mut self.input);
                self.keep_input(&input[header.length..]);
                self.enter(Stage::Idle, turn.now);
                Pass::On(self)
            }
            Ok(None) => Pass::On(self),
            Err(problem) => {
                let message = format!("a connection was closed: its PROXY protocol header is unusable: {problem}");
                self.context.warn_of_proxies(&message, turn.now);
                Pass::Out(Step::Closed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::engine::context::ShardContext;
    use crate::engine::options::Options;
    use crate::engine::report::Reports;
    use crate::engine::scheduling::capacity::Capacity;
    use crate::engine::testkit::doubles::Notebook;
    use crate::engine::transport::spool::Budget;
    use crate::http::trust::Trust;

    fn context(trusted: &[&'static str], proxy_protocol: Option<Accepted>) -> (ShardContext, Arc<Notebook>) {
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
            let (behind, _) = context(trusted, Some(Accepted::Any));
            let (open, _) = context(trusted, None);
            assert!(yes.iter().all(|peer| behind.admits(*peer, now)), "{trusted:?}");
            assert!(no.iter().all(|peer| !behind.admits(*peer, now)), "{trusted:?}");
            assert!(yes.iter().chain(&no).all(|peer| open.admits(*peer, now)), "{trusted:?}");
        }
    }

    #[test]
    fn closed_connections_are_reported_now_and_then() {
        let (context, notebook) = context(&["10.0.0.0/8"], Some(Accepted::V1));
        let now = Instant::now();
        for seconds in [0, 1, 59, 60, 61] {
            assert!(!context.admits(peer("192.0.2.1:80"), now + Duration::from_secs(seconds)));
        }
        let expected = "a connection from 192.0.2.1 was closed: with proxy_protocol, trusted_proxies must cover it";
        assert_eq!(*notebook.0.lock().unwrap(), [expected; 2]);
    }
}
