//! The places of a shard's connections. A connection that waits for a request is put away as the few bytes that cannot be
//! made anew: ten thousand idle clients take less than a megabyte.

use std::sync::Arc;
use std::time::Instant;

use crate::engine::connection::Connection;
use crate::engine::connection::deadlines::{Awaited, EvictionPriority};
use crate::engine::connection::idle::IdleConnection;
use crate::engine::context::ShardContext;
use crate::engine::exchange::ticket::Ticket;
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
    is_served: bool,
    since: Instant,
}

impl ParkedConnection {
    // `None`: the transport is shared, which `Connection::can_park` has ruled out.
    fn new(connection: Connection, since: Instant, is_served: bool) -> Option<Self> {
        let (client, scheme) = (connection.client(), connection.scheme());
        let Connection { transport, listener, .. } = connection;
        let stream = Arc::into_inner(transport)?.into_stream();
        Some(Self { stream, client, scheme, listener: u16::try_from(listener).ok()?, is_served, since })
    }

    fn awaited(&self) -> Awaited<'_> {
        Awaited::Request { since: self.since, is_first: !self.is_served }
    }

    fn idle(&self) -> IdleConnection {
        let Self { client, scheme, listener, is_served, since, .. } = *self;
        let (listener, awaits_proxy_header, input) = (listener.into(), false, Vec::new());
        IdleConnection { client, scheme, listener, is_served, awaits_proxy_header, since, input }
    }

    fn wake(self, context: &Arc<ShardContext>, ticket: Ticket) -> Box<Connection> {
        let idle = self.idle();
        let transport = Arc::new(Transport::new(self.stream));
        Box::new(Connection::resumed(transport, Arc::clone(context), ticket, &idle))
    }
}

#[derive(Default)]
enum SlotState {
    #[default]
    Free,
    Parked(ParkedConnection),
    Awake(Box<Connection>),
}

#[derive(Default)]
struct ConnectionSlot {
    state: SlotState,
    // The entry that the timers have for it.
    scheduled: Option<Tick>,
    // Connections that it had before.
    generation: u32,
    // It is in line for the next round, once.
    again: bool,
}

// What an idle client costs, beside its entry of 16 bytes in the timers. (The double of the tests is larger than a socket.)
#[cfg(not(any(test, feature = "doubles")))]
const _: () = assert!(size_of::<ConnectionSlot>() <= 80);

/// Places that are made at a time. They stay where they are: one growing table would leave its former places to the allocator.
const PAGE: usize = 256;

/// The places, by their numbers.
#[derive(Default)]
pub(in crate::engine) struct ConnectionTable {
    pages: Vec<Vec<ConnectionSlot>>,
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

    /// What the next connection gets.
    pub fn next_ticket(&self, shard: usize) -> Ticket {
        let slot = self.free.last().map_or(self.made, |place| *place as usize);
        let generation = self.slot(slot).map_or(0, |slot| slot.generation);
        Ticket { shard, slot, generation, stream: 0 }
    }

    fn slot(&self, place: usize) -> Option<&ConnectionSlot> {
        self.pages.get(place / PAGE)?.get(place % PAGE)
    }

    fn slot_mut(&mut self, place: usize) -> Option<&mut ConnectionSlot> {
        self.pages.get_mut(place / PAGE)?.get_mut(place % PAGE)
    }

    fn make(&mut self) {
        if self.made % PAGE == 0 {
            self.pages.push(Vec::with_capacity(PAGE));
        }
        if let Some(page) = self.pages.last_mut() {
            page.push(ConnectionSlot::default());
            self.made += 1;
        }
    }

    /// Adds a connection, which has the next ticket.
    pub fn insert(&mut self, connection: Box<Connection>) {
        let place = connection.ticket().slot;
        if self.free.pop().is_none() {
            self.make();
        }
        if let Some(slot) = self.slot_mut(place) {
            slot.state = SlotState::Awake(connection);
            self.awake += 1;
        }
    }

    /// The connection, made anew if it was put away.
    pub fn wake(&mut self, place: usize, context: &Arc<ShardContext>) -> Option<&mut Connection> {
        let slot = self.pages.get_mut(place / PAGE)?.get_mut(place % PAGE)?;
        if matches!(slot.state, SlotState::Parked(_)) {
            let ticket = Ticket { shard: context.shard, slot: place, generation: slot.generation, stream: 0 };
            if let SlotState::Parked(parked) = std::mem::take(&mut slot.state) {
                slot.state = SlotState::Awake(parked.wake(context, ticket));
                self.awake += 1;
            }
        }
        match &mut slot.state {
            SlotState::Awake(connection) => Some(connection),
            _ => None,
        }
    }

    /// A connection waits, after it was moved along: the timers get an entry for it. With many connections, one that idles is put
    /// away. Returns whether it has let bytes of the application's go.
    pub fn settle(&mut self, place: usize, timers: &mut Timers) -> bool {
        let Some(slot) = self.slot_mut(place) else { return false };
        let SlotState::Awake(connection) = &mut slot.state else { return false };
        let has_released = connection.take_released();
        if let (Some(deadline), Ok(number)) = (connection.deadline(), u32::try_from(place)) {
            timers.schedule(number, deadline, &mut slot.scheduled);
        }
        if self.awake > AWAKE {
            self.park(place);
        }
        has_released
    }

    fn park(&mut self, place: usize) {
        let Some(slot) = self.slot_mut(place) else { return };
        let SlotState::Awake(connection) = &slot.state else { return };
        let Some((since, is_served)) = connection.can_park() else { return };
        if let SlotState::Awake(connection) = std::mem::take(&mut slot.state) {
            let parked = ParkedConnection::new(*connection, since, is_served);
            let lives = parked.is_some();
            slot.state = parked.map_or(SlotState::Free, SlotState::Parked);
            self.awake -= 1;
            if !lives {
                self.release(place);
            }
        }
    }

    /// Ends a connection's life. Gives its transport, if it was not put away.
    pub fn remove(&mut self, place: usize) -> Option<Arc<Transport>> {
        let transport = match std::mem::take(&mut self.slot_mut(place)?.state) {
            SlotState::Free => return None,
            SlotState::Parked(_) => None,
            SlotState::Awake(connection) => {
                self.awake -= 1;
                Some(connection.transport)
            }
        };
        self.release(place);
        transport
    }

    fn release(&mut self, place: usize) {
        if let (Some(slot), Ok(number)) = (self.slot_mut(place), u32::try_from(place)) {
            *slot = ConnectionSlot { generation: slot.generation.wrapping_add(1), ..ConnectionSlot::default() };
            self.free.push(number);
        }
    }

    /// The connection, unless it is put away.
    pub fn connection(&mut self, place: usize) -> Option<&mut Connection> {
        match &mut self.slot_mut(place)?.state {
            SlotState::Awake(connection) => Some(connection),
            _ => None,
        }
    }

    /// The connection that an exchange belongs to, if it lives.
    pub fn of(&mut self, ticket: &Ticket) -> Option<&mut Connection> {
        self.connection(ticket.slot).filter(|connection| connection.ticket().is_same_connection(ticket))
    }

    fn awake(&self, place: usize) -> Option<&Connection> {
        match &self.slot(place)?.state {
            SlotState::Awake(connection) => Some(connection),
            _ => None,
        }
    }

    /// The transport of a connection that is not put away.
    pub fn transport(&self, place: usize) -> Option<&Arc<Transport>> {
        self.awake(place).map(|connection| &connection.transport)
    }

    /// Whether the connection is put away: nothing but bytes or its end concerns it.
    pub fn is_parked(&self, place: usize) -> bool {
        self.slot(place).is_some_and(|slot| matches!(slot.state, SlotState::Parked(_)))
    }

    /// Whether its request is with the application.
    pub fn is_serving(&self, place: usize) -> bool {
        self.awake(place).is_some_and(Connection::is_serving)
    }

    /// Whether it waits for a request of which no byte has come.
    pub fn is_idle(&self, place: usize) -> bool {
        self.is_parked(place) || self.awake(place).is_some_and(Connection::is_idle)
    }

    /// The stream of a connection that waits for a request, and what else there is to it.
    pub fn idle(&self, place: usize) -> Option<(&Stream, IdleConnection)> {
        match &self.slot(place)?.state {
            SlotState::Parked(parked) => Some((&parked.stream, parked.idle())),
            SlotState::Awake(connection) => Some((connection.transport.stream(), connection.idle()?)),
            SlotState::Free => None,
        }
    }

    /// How readily it is given up for the sake of another.
    pub fn eviction_priority(&self, place: usize, now: Instant) -> Option<EvictionPriority> {
        match &self.slot(place)?.state {
            SlotState::Parked(parked) => parked.awaited().eviction_priority(now),
            SlotState::Awake(connection) => connection.eviction_priority(now),
            SlotState::Free => None,
        }
    }

    /// When its deadline is; `None` while a worker has its request, or if there is none.
    pub fn deadline(&self, place: usize, context: &ShardContext) -> Option<Instant> {
        match &self.slot(place)?.state {
            SlotState::Parked(parked) => parked.awaited().deadline(&context.options),
            SlotState::Awake(connection) => connection.deadline(),
            SlotState::Free => None,
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
