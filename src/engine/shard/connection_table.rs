//! The places of a shard's connections. A connection that waits for a request is put away as the few bytes that cannot be
//! made anew: ten thousand idle clients take less than a megabyte.

use std::sync::Arc;
use std::time::Instant;

use crate::engine::connection::deadlines::{EvictionPriority, Waiting};
use crate::engine::connection::{Connection, Stage};
use crate::engine::context::ShardContext;
use crate::engine::shard::timers::{Tick, Timers};
use crate::engine::transport::Transport;
use crate::http::origin::{Client, Scheme};
use crate::net::stream::Stream;

/// Connections that are kept whole though they idle: those of a server with few clients, which would be put away and made
/// anew for every request.
const AWAKE: usize = 128;

// What is left of a connection that waits for a request of which no byte has come.
struct ParkedConnection {
    stream: Stream,
    client: Client,
    scheme: Option<Scheme>,
    listener: u16,
    served: bool,
    since: Instant,
}

impl ParkedConnection {
    fn waiting(&self) -> Waiting {
        Waiting { since: self.since, served: self.served }
    }

    fn wake(self, context: &Arc<ShardContext>, token: usize) -> Box<Connection> {
        let Self { stream, client, scheme, listener, served, since } = self;
        let transport = Arc::new(Transport::new(stream));
        let mut connection = Connection::new(transport, Arc::clone(context), client, listener.into(), token, since);
        connection.stage = Stage::Idle;
        connection.scheme = scheme;
        connection.served = served;
        Box::new(connection)
    }
}

impl Connection {
    // Whether there is no more to keep of it than what a sleeper has. Its place in the connections has a part of its transport.
    fn can_park(&self) -> bool {
        let has_rest = |transport: &Transport| transport.pending() > 0 || transport.output().has_failed();
        matches!(self.stage, Stage::Idle)
            && self.input.is_empty()
            && self.is_dry()
            && self.record.is_none()
            && !has_rest(&self.transport)
            && Arc::strong_count(&self.transport) <= 2
            && Arc::weak_count(&self.transport) == 0
    }

    // `None`: somebody else has a part of it, which `can_sleep` has ruled out.
    fn into_parked(self) -> Option<ParkedConnection> {
        let Self { transport, client, scheme, listener, served, since, .. } = self;
        let stream = Arc::into_inner(transport)?.into_stream();
        Some(ParkedConnection { stream, client, scheme, listener: u16::try_from(listener).ok()?, served, since })
    }
}

#[derive(Default)]
enum State {
    #[default]
    Free,
    Asleep(ParkedConnection),
    Awake {
        // Here as long as the connection lives.
        transport: Arc<Transport>,
        // Absent while a worker has it.
        connection: Option<Box<Connection>>,
    },
}

#[derive(Default)]
struct Slot {
    state: State,
    // The entry that the timers have for it.
    scheduled: Option<Tick>,
    // It is in line for the next round, once.
    again: bool,
}

// What an idle client costs, beside its entry of 16 bytes in the timers. (The double of the tests is larger than a socket.)
#[cfg(not(any(test, feature = "doubles")))]
const _: () = assert!(size_of::<Slot>() <= 64);

/// Places that are made at a time. They stay where they are: one growing table would leave its former places to the allocator.
const PAGE: usize = 256;

/// The places, by their numbers.
#[derive(Default)]
pub(in crate::engine) struct ConnectionTable {
    pages: Vec<Vec<Slot>>,
    made: usize,
    free: Vec<u32>,
    awake: usize,
}

impl ConnectionTable {
    /// Connections that live.
    pub fn len(&self) -> usize {
        self.made - self.free.len()
    }

    /// Numbers of all places, of which some are free.
    pub fn places(&self) -> std::ops::Range<usize> {
        0..self.made
    }

    /// The place that the next connection gets.
    pub fn next_place(&self) -> usize {
        self.free.last().map_or(self.made, |place| *place as usize)
    }

    fn slot(&self, place: usize) -> Option<&Slot> {
        self.pages.get(place / PAGE)?.get(place % PAGE)
    }

    fn slot_mut(&mut self, place: usize) -> Option<&mut Slot> {
        self.pages.get_mut(place / PAGE)?.get_mut(place % PAGE)
    }

    fn make(&mut self) {
        if self.made % PAGE == 0 {
            self.pages.push(Vec::with_capacity(PAGE));
        }
        if let Some(page) = self.pages.last_mut() {
            page.push(Slot::default());
            self.made += 1;
        }
    }

    /// Takes the place that was told before for a new connection, which is somebody else's until it is kept.
    pub fn open(&mut self, transport: &Arc<Transport>) {
        let place = self.next_place();
        if self.free.pop().is_none() {
            self.make();
        }
        if let Some(slot) = self.slot_mut(place) {
            slot.state = State::Awake { transport: Arc::clone(transport), connection: None };
            self.awake += 1;
        }
    }

    /// Takes the connection out, as somebody else's for a while; `None` if it is that already.
    pub fn take(&mut self, place: usize, context: &Arc<ShardContext>) -> Option<Box<Connection>> {
        let slot = self.slot_mut(place)?;
        match std::mem::take(&mut slot.state) {
            State::Free => None,
            State::Asleep(sleeper) => {
                let connection = sleeper.wake(context, place);
                slot.state = State::Awake { transport: Arc::clone(&connection.transport), connection: None };
                self.awake += 1;
                Some(connection)
            }
            State::Awake { transport, connection } => {
                slot.state = State::Awake { transport, connection: None };
                connection
            }
        }
    }

    /// Takes a connection back. With many of them, one that idles is put away.
    pub fn keep(&mut self, place: usize, connection: Box<Connection>) {
        let sleeps = self.awake > AWAKE && connection.can_park();
        let Some(slot) = self.slot_mut(place) else { return };
        if !sleeps {
            if let State::Awake { connection: kept, .. } = &mut slot.state {
                *kept = Some(connection);
            }
            return;
        }
        // Its part of the transport goes first: the socket alone is kept.
        slot.state = State::Free;
        let sleeper = connection.into_parked();
        let lives = sleeper.is_some();
        slot.state = sleeper.map_or(State::Free, State::Asleep);
        self.awake -= 1;
        if !lives {
            self.release(place);
        }
    }

    /// Ends a connection's life. Gives its transport, if it was not put away.
    pub fn remove(&mut self, place: usize) -> Option<Arc<Transport>> {
        let transport = match std::mem::take(&mut self.slot_mut(place)?.state) {
            State::Free => return None,
            State::Asleep(_) => None,
            State::Awake { transport, .. } => {
                self.awake -= 1;
                Some(transport)
            }
        };
        self.release(place);
        transport
    }

    fn release(&mut self, place: usize) {
        if let (Some(slot), Ok(place)) = (self.slot_mut(place), u32::try_from(place)) {
            *slot = Slot::default();
            self.free.push(place);
        }
    }

    /// The connection, unless a worker has it or it is put away.
    pub fn connection(&mut self, place: usize) -> Option<&mut Connection> {
        match &mut self.slot_mut(place)?.state {
            State::Awake { connection, .. } => connection.as_deref_mut(),
            _ => None,
        }
    }

    /// The transport of a connection that is not put away.
    pub fn transport(&self, place: usize) -> Option<&Arc<Transport>> {
        match &self.slot(place)?.state {
            State::Awake { transport, .. } => Some(transport),
            _ => None,
        }
    }

    /// Whether the connection is put away: nothing but bytes or its end concerns it.
    pub fn is_parked(&self, place: usize) -> bool {
        self.slot(place).is_some_and(|slot| matches!(slot.state, State::Asleep(_)))
    }

    /// Whether its request is with the application.
    pub fn is_served(&self, place: usize) -> bool {
        self.slot(place).is_some_and(|slot| matches!(slot.state, State::Awake { connection: None, .. }))
    }

    /// Whether it waits for a request of which no byte has come.
    pub fn is_idle(&self, place: usize) -> bool {
        match self.slot(place).map(|slot| &slot.state) {
            Some(State::Asleep(_)) => true,
            Some(State::Awake { connection: Some(connection), .. }) => connection.is_idle(),
            _ => false,
        }
    }

    /// How readily it is given up for the sake of another.
    pub fn eviction_priority(&self, place: usize, now: Instant) -> Option<EvictionPriority> {
        match &self.slot(place)?.state {
            State::Asleep(sleeper) => sleeper.waiting().eviction_priority(now),
            State::Awake { connection: Some(connection), .. } => connection.eviction_priority(now),
            State::Awake { connection: None, transport } => EvictionPriority::of_served(transport, now),
            State::Free => None,
        }
    }

    /// When patience with it ends; `None` while a worker has it, or if there is none.
    pub fn deadline(&self, place: usize, context: &ShardContext) -> Option<Instant> {
        match &self.slot(place)?.state {
            State::Asleep(sleeper) => Some(sleeper.waiting().deadline(&context.options)),
            State::Awake { connection, .. } => connection.as_ref()?.deadline(),
            State::Free => None,
        }
    }

    /// Sees to it that the timers have an entry for it.
    pub fn schedule(&mut self, place: usize, deadline: Instant, timers: &mut Timers) {
        if let (Some(slot), Ok(number)) = (self.slot_mut(place), u32::try_from(place)) {
            timers.schedule(number, deadline, &mut slot.scheduled);
        }
    }

    /// Whether an entry of the timers is this place's, which then has none.
    pub fn unschedule(&mut self, place: usize, tick: Tick) -> bool {
        self.slot_mut(place).and_then(|slot| slot.scheduled.take_if(|scheduled| *scheduled == tick)).is_some()
    }

    /// Puts it in line for the next round. `false`: it is already.
    pub fn enlist(&mut self, place: usize) -> bool {
        self.slot_mut(place).is_some_and(|slot| !std::mem::replace(&mut slot.again, true))
    }

    /// Takes it out of the line.
    pub fn delist(&mut self, place: usize) {
        if let Some(slot) = self.slot_mut(place) {
            slot.again = false;
        }
    }
}

#[cfg(test)]
#[path = "connection_table_tests.rs"]
mod tests;
