//! A stand-in for the shard: one connection over a scripted stream, moved along without a poller, a queue or a thread.

use std::sync::Arc;
use std::time::Instant;

use crate::engine::clock::Clock;
use crate::engine::connection::{Connection, SHARE, Step, Turn};
use crate::engine::context::ShardContext;
use crate::engine::exchange::Exchange;
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
        let connection = Connection::new(Arc::clone(&transport), Arc::clone(&context), Client::Local, 0, 0, now);
        Self {
            double,
            witness,
            context,
            gateway,
            now,
            block: 4096,
            share: SHARE,
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
            let Some(mut connection) = self.connection.take() else { return };
            connection.note(true, false);
            let waits = self.step(|turn| connection.advance(turn));
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
        let Some(connection) = self.connection.take() else { return };
        self.now = connection.deadline().unwrap_or(self.now);
        self.step(|turn| connection.expire(turn));
    }

    // Takes one step. Returns whether the next one needs an event.
    fn step(&mut self, step: impl FnOnce(&mut Turn<'_>) -> Step) -> bool {
        let mut scratch = vec![0; self.block];
        let mut turn = Turn { now: self.now, date: DATE, scratch: &mut scratch, share: self.share };
        let mut came_to = step(&mut turn);
        if self.full {
            while let Step::Ready(exchange) = came_to {
                came_to = Connection::decline(exchange, Reject::QueueFull, &mut turn);
            }
        }
        match came_to {
            Step::Wait(connection) => {
                self.connection = Some(connection);
                true
            }
            Step::Again(connection) => {
                self.connection = Some(connection);
                false
            }
            Step::Ready(exchange) => self.answer(exchange),
            Step::Closed => false,
        }
    }

    // What a worker does.
    fn answer(&mut self, exchange: Box<Exchange>) -> bool {
        if exchange.holds_body_back() {
            self.connection = Some(Connection::ask_for_body(exchange, self.now));
            return false;
        }
        let Self { gateway, clock, .. } = self;
        let answered = self.context.reports.catch_panic("one request", || worker::respond(gateway, exchange, clock));
        let Some(exchange) = answered.flatten() else {
            self.transport.stream().reset_on_close();
            return false;
        };
        let mut connection = Connection::conclude(exchange, self.now);
        let mut waits = false;
        if self.sends_ahead {
            connection.send();
            // The poller is not woken for it.
            waits = !connection.is_eager();
        }
        self.connection = Some(connection);
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
