//! A stand-in for the shard: one connection over a scripted stream, moved along without a poller, a queue or a thread.

use std::sync::Arc;
use std::time::Instant;

use crate::engine::clock::Clock;
use crate::engine::connection::{Connection, Step, TURN_BYTES, Turn};
use crate::engine::context::ShardContext;
use crate::engine::exchange::Exchange;
use crate::engine::exchange::finished::Finished;
use crate::engine::exchange::ticket::Ticket;
use crate::engine::gateway::Gateway;
use crate::engine::options::Options;
use crate::engine::testkit::doubles::{Witness, context};
use crate::engine::transport::Transport;
use crate::engine::worker;
use crate::http::origin::Client;
use crate::http::reject::Reject;
use crate::net::stream::Stream;
use crate::net::stream::double::Double;

/// Moves until a connection is said never to come to rest.
const PATIENCE: usize = 1_000_000;

const DATE: &[u8; 29] = b"Thu, 01 Jan 1970 00:00:00 GMT";

/// A connection, its client's script, and the application.
pub struct Rig<G> {
    /// The client's end.
    pub double: Double,
    /// What the observers learn.
    pub witness: Witness,
    /// The connection's surroundings.
    pub context: Arc<ShardContext>,
    /// What answers.
    pub gateway: G,
    /// The instant that everything happens at.
    pub now: Instant,
    /// Bytes that one read takes at most.
    pub block: usize,
    /// Bytes that the connection reads in one turn at most.
    pub share: usize,
    /// No request finds a place in the queue.
    pub full: bool,
    /// What a worker answered leaves before the poller sees to the connection again.
    pub sends_ahead: bool,
    connection: Option<Box<Connection>>,
    transport: Arc<Transport>,
    clock: Clock,
}

impl<G: Gateway> Rig<G> {
    /// A connection that was just accepted.
    pub fn new(options: Options, gateway: G) -> Self {
        let (double, witness, now) = (Double::default(), Witness::default(), Instant::now());
        let context = context(options, &witness);
        let transport = Arc::new(Transport::new(Stream::Double(double.clone())));
        let connection =
            Connection::new(Arc::clone(&transport), Arc::clone(&context), Client::Local, 0, Ticket::default(), now);
        Self {
            double,
            witness,
            context,
            gateway,
            now,
            block: 4096,
            share: TURN_BYTES,
            full: false,
            sends_ahead: false,
            connection: Some(Box::new(connection)),
            transport,
            clock: Clock::new(now),
        }
    }

    /// The client sends something.
    pub fn send(&mut self, bytes: &[u8]) {
        // An empty piece would be a pause.
        if !bytes.is_empty() {
            self.double.script().incoming.push_back(bytes.to_vec());
        }
    }

    /// Moves the connection along until it waits for its client or is closed.
    ///
    /// # Panics
    /// If it never does.
    #[expect(clippy::panic, reason = "only tests use this, and so it fails them")]
    pub fn run(&mut self) {
        for _ in 0..PATIENCE {
            if self.connection.is_none() {
                return;
            }
            let waits = self.step(|connection, turn| {
                connection.note(true, false);
                connection.advance(turn)
            });
            let pending = self.transport.pending();
            let script = self.double.script();
            if waits && script.incoming.is_empty() && !script.ended && pending == 0 {
                return;
            }
        }
        panic!("the connection never comes to rest");
    }

    /// The connection's patience with its client ends.
    pub fn expire(&mut self) {
        // The poller has seen to it before that.
        self.run();
        let Some(connection) = &self.connection else { return };
        self.now = connection.deadline().unwrap_or(self.now);
        self.step(Connection::expire);
    }

    // Takes one step. Returns whether the next one needs an event.
    fn step(&mut self, step: impl FnOnce(&mut Connection, &mut Turn<'_>) -> Step) -> bool {
        let mut scratch = vec![0; self.block];
        let mut turn = Turn { now: self.now, date: DATE, scratch: &mut scratch, share: self.share };
        let Some(connection) = &mut self.connection else { return false };
        let mut came_to = step(connection, &mut turn);
        if self.full {
            while let Step::Ready(exchange) = came_to {
                came_to = connection.decline(exchange, Reject::QueueFull, &mut turn);
            }
        }
        match came_to {
            Step::Wait => true,
            Step::Again => false,
            Step::Ready(exchange) => self.answer(exchange),
            Step::Closed => {
                self.connection = None;
                false
            }
        }
    }

    // What a worker does.
    fn answer(&mut self, exchange: Box<Exchange>) -> bool {
        let Self { gateway, clock, .. } = self;
        let finished = if exchange.holds_body_back() {
            Finished::awaiting_body(exchange)
        } else {
            let answered =
                self.context.reports.catch_panic("one request", || worker::respond(gateway, exchange, clock));
            let Some(exchange) = answered.flatten() else {
                self.transport.stream().reset_on_close();
                self.connection = None;
                return false;
            };
            Finished::answered(exchange, self.now)
        };
        self.take_back(finished)
    }

    fn take_back(&mut self, mut finished: Finished) -> bool {
        // The poller is not woken for what needs it no more.
        let waits = self.sends_ahead && !finished.send(&self.context);
        if let Some(connection) = &mut self.connection {
            connection.take_back(finished, self.now);
        }
        waits
    }

    /// Whether the server has closed the connection.
    pub fn is_closed(&self) -> bool {
        self.connection.is_none()
    }

    /// The connection, while it is open.
    pub fn connection(&self) -> Option<&Connection> {
        self.connection.as_deref()
    }
}
