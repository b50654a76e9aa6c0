//! Stand-ins for the tests of this room: an application without Python, a reporter and an observer that remember.

#![expect(clippy::expect_used, reason = "only tests use this, and so it fails them")]

use std::sync::Arc;

use crate::engine::clock::Clock;
use crate::engine::context::ShardContext;
use crate::engine::exchange::{Content, Exchange};
use crate::engine::gateway::Gateway;
use crate::engine::observe::{Observer, Record};
use crate::engine::options::Options;
use crate::engine::page::PageSlot;
use crate::engine::report::{Reporter, Reports, Severity};
use crate::engine::scheduling::capacity::Capacity;
use crate::engine::sync::Mutex;
use crate::engine::transport::body::Body;
use crate::engine::transport::spool::Budget;
use crate::http::head::ResponseHead;
use crate::http::status::Status;
use crate::http1::plan::BodySize;

/// Remembers what was reported.
#[derive(Default)]
pub struct Notebook(pub Mutex<Vec<String>>);

impl Reporter for Notebook {
    fn report(&self, _severity: Severity, message: &str) {
        self.0.lock().expect("never poisoned").push(message.to_owned());
    }
}

/// Remembers status and size of every exchange.
#[derive(Clone, Default)]
pub struct Witness(pub Arc<Mutex<Vec<(u16, u64, bool)>>>);

impl Observer for Witness {
    fn finished(&self, record: &Record) {
        self.0.lock().expect("never poisoned").push((record.status, record.body_bytes, record.complete));
    }
}

/// The surroundings of a test's connections.
pub fn context(options: Options, witness: &Witness) -> Arc<ShardContext> {
    let observers: Arc<[Box<dyn Observer>]> = Arc::new([Box::new(witness.clone())]);
    let (capacity, reports) = (Arc::new(Capacity::new(1, 1)), Arc::new(Reports::new(Arc::<Notebook>::default())));
    let spool = Arc::new(Budget::of(&options, u64::MAX, PageSlot::private(1)));
    Arc::new(ShardContext::new(0, Arc::new(options), capacity, spool, reports, observers))
}

/// The whole body, or an empty one if it cannot be read.
pub fn read_whole(exchange: &mut Exchange) -> Vec<u8> {
    let mut bytes = Vec::new();
    match exchange.take_body() {
        Body::Empty => {}
        Body::Memory(memory, _) => bytes = memory,
        Body::File(mut file) => drop(std::io::Read::read_to_end(&mut file, &mut bytes)),
        Body::Stream(mut stream) => {
            let mut block = [0; 1000];
            while let Ok(count @ 1..) = stream.read(&mut block) {
                bytes.extend_from_slice(&block[..count]);
            }
            exchange.give_back(stream);
        }
    }
    bytes
}

/// Answers 200 with `content`, of known length unless `pieces` are asked for.
///
/// # Panics
/// If the client has gone.
pub fn answer(exchange: &mut Exchange, content: &[u8], pieces: bool, clock: &mut Clock) {
    let head = ResponseHead::new(Status::new(200).expect("a status"), b"OK");
    if pieces {
        exchange.begin(&head, BodySize::Unknown, clock);
        for piece in content.chunks(3) {
            exchange.write(Content::Borrowed(piece)).expect("the client is there");
            exchange.push().expect("the client is there");
        }
    } else {
        exchange.begin(&head, BodySize::Known(content.len() as u64), clock);
        exchange.write(Content::Borrowed(content)).expect("the client is there");
    }
    exchange.finish();
}

/// An application without Python: what it does is a closure, and it holds no interpreter.
pub struct Scripted<F>(pub F);

impl<F: FnMut(&mut Exchange, &mut Clock)> Gateway for Scripted<F> {
    fn serve(&mut self, mut exchange: Box<Exchange>, clock: &mut Clock) -> Option<Box<Exchange>> {
        (self.0)(&mut exchange, clock);
        Some(exchange)
    }

    fn detached<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> T {
        work()
    }
}
