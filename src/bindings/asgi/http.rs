//! One HTTP request as a session with the application: the order of its messages, and what they do to the exchange.

use std::io::Read;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::message::{HttpSendEvent, content, out_of_place};
use super::receive_event::ReceiveEvent;
use super::send_event::SendEvent;
use super::session::{Io, PollOutcome, Session, WriteStall, is_decided};
use crate::bindings::errors::client_disconnected;
use crate::engine::exchange::{Exchange, Progress};
use crate::engine::observe::Cause;
use crate::engine::scheduling::capacity::AdmissionGuard;
use crate::engine::transport::body::{Arrived, Body, BodyFailure};
use crate::engine::transport::output::FileSpan;
use crate::http::head::ResponseHead;
use crate::http::reject::Reject;
use crate::http1::plan::BodySize;
use crate::interface::scope;
use crate::net::outcome::Presence;

/// A client that has closed its sending side has most likely disconnected, but may have half-closed and still read: what is
/// sent within this time reaches it.
const HALF_CLOSED_WAIT: Duration = Duration::from_secs(1);

/// How long the head of a response waits for the first content. Content within this time is sent with it, with a
/// Content-Length if it is complete, and an application that fails within it is answered 500.
const HEAD_WAIT: Duration = Duration::from_millis(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResponseStage {
    // The response has not begun.
    Start,
    // Its head is queued, the content is due.
    Head,
    Content,
    // The content is complete, its trailer fields are due.
    Trailers,
    Over,
}

/// The session.
pub struct Http {
    // Absent once the response is complete or aborted.
    exchange: Option<Box<Exchange>>,
    // Counts the request as waiting for its response.
    admission: Option<AdmissionGuard>,
    stage: ResponseStage,
    // The response's head until it is sent, and when it is sent without content.
    head: Option<(ResponseHead, Instant)>,
    // The server is being stopped.
    stopping: bool,
    // The lines of announced trailer fields.
    trailers: Option<Vec<u8>>,
    // The application has received the whole body.
    body_over: bool,
    // Why it cannot.
    failure: Option<BodyFailure>,
    // Why the response ended before the application ended it.
    cut: Option<&'static str>,
    // Since when the client's sending side has been closed.
    ended: Option<Instant>,
    stall: WriteStall,
}

impl Http {
    /// The session about `exchange`.
    pub fn new(exchange: Box<Exchange>, admission: AdmissionGuard, now: Instant) -> Self {
        let ended = exchange.has_ended().then_some(now);
        Self {
            exchange: Some(exchange),
            admission: Some(admission),
            stage: ResponseStage::Start,
            head: None,
            stopping: false,
            trailers: None,
            body_over: false,
            failure: None,
            cut: None,
            ended,
            stall: WriteStall::default(),
        }
    }

    // What has come of a body that is still arriving; `None` for one that is complete.
    fn read(&mut self, io: &mut Io<'_>) -> Result<Option<Arrived>, BodyFailure> {
        let Some(exchange) = &mut self.exchange else {
            self.body_over = true;
            return Err(BodyFailure::Incomplete);
        };
        match exchange.take_body() {
            Body::Stream(mut stream) => {
                let before = stream.received();
                let arrived = stream.poll(io.scratch, io.now);
                // With the framing of chunks.
                io.spend(usize::try_from(stream.received() - before).unwrap_or(usize::MAX));
                self.body_over = stream.is_over();
                exchange.give_back(stream);
                arrived.map(Some)
            }
            body => {
                exchange.put_body(body);
                Ok(None)
            }
        }
    }

    fn whole_body(&mut self, py: Python<'_>) -> PyResult<ReceiveEvent> {
        self.body_over = true;
        match self.exchange.as_deref_mut().map_or(Body::Empty, Exchange::take_body) {
            Body::Memory(bytes, _reservation) => Ok(piece(py, &bytes, false)),
            Body::File(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)?;
                Ok(piece(py, &bytes, false))
            }
            Body::Empty | Body::Stream(_) => Ok(piece(py, b"", false)),
        }
    }

    // Refuses the request, or aborts the exchange of a client that has disconnected. The application gets a disconnect.
    fn fail(&mut self, failure: BodyFailure, io: &mut Io<'_>) {
        self.failure = Some(failure);
        if let Some(exchange) = &mut self.exchange {
            match failure {
                BodyFailure::Incomplete => {
                    exchange.lose_client();
                    self.cut = Some(failure.reject().detail());
                }
                failure => exchange.refuse(failure.reject(), io.clock),
            }
        }
    }

    fn check_order(&self, event: &HttpSendEvent<'_>) -> PyResult<()> {
        let why = match (self.stage, event, self.head.is_some()) {
            (ResponseStage::Start, HttpSendEvent::Start { .. } | HttpSendEvent::Hint(_), false)
            | (ResponseStage::Start, HttpSendEvent::Body { .. } | HttpSendEvent::File { .. }, true)
            | (ResponseStage::Head, HttpSendEvent::Body { .. } | HttpSendEvent::File { .. }, _)
            | (ResponseStage::Content, HttpSendEvent::Body { .. }, _)
            | (ResponseStage::Trailers, HttpSendEvent::Trailers { .. }, _) => return Ok(()),
            (ResponseStage::Start, HttpSendEvent::Start { .. }, true)
            | (ResponseStage::Head | ResponseStage::Content, HttpSendEvent::Start { .. }, _) => "twice",
            (ResponseStage::Start, HttpSendEvent::Body { .. } | HttpSendEvent::File { .. }, false) => {
                "before http.response.start"
            }
            (ResponseStage::Content, HttpSendEvent::File { .. }, _) => "after http.response.body",
            (_, HttpSendEvent::Hint(_), _) => "after http.response.start",
            (ResponseStage::Trailers, _, _) => "where http.response.trailers is due",
            (_, _, _) => "where it is not due",
        };
        Err(event.out_of_order(why))
    }

    // Queues the head, if it is not yet.
    fn begin(&mut self, size: BodySize, io: &mut Io<'_>) -> Option<&mut Exchange> {
        let exchange = self.exchange.as_deref_mut()?;
        if let Some((head, _)) = self.head.take() {
            // Trailer fields need the chunked coding.
            let size = if self.trailers.is_some() { BodySize::Unknown } else { size };
            exchange.begin(&head, size, io.clock);
            self.admission = None;
            self.stage = ResponseStage::Head;
        }
        Some(exchange)
    }

    // A stream of events has no end of its own: it is finished at a stop, and its client reconnects elsewhere.
    fn end_event_stream(&mut self) {
        if !self.stopping || self.cut.is_some() {
            return;
        }
        if let Some(exchange) = self.exchange.as_deref_mut().filter(|exchange| exchange.is_event_stream()) {
            exchange.finish();
            self.cut = Some("the server's stop ended the stream of events");
        }
    }

    fn after_content(&mut self, more: bool) -> PyResult<()> {
        self.stage = ResponseStage::Content;
        let Some(exchange) = self.exchange.as_deref_mut() else { return Ok(()) };
        if exchange.has_surplus() {
            exchange.abort();
            self.stage = ResponseStage::Over;
            return Err(PyValueError::new_err("http.response.body: the content is longer than its content-length"));
        }
        if more {
            self.end_event_stream();
            return Ok(());
        }
        let lacking = exchange.lacking();
        if lacking > 0 {
            exchange.abort();
            self.stage = ResponseStage::Over;
            let message = format!("http.response.body: the content is {lacking} bytes shorter than its content-length");
            return Err(PyValueError::new_err(message));
        }
        if self.trailers.is_some() {
            self.stage = ResponseStage::Trailers;
        } else {
            exchange.finish();
            self.stage = ResponseStage::Over;
        }
        Ok(())
    }

    fn trail(&mut self, more_lines: &[u8], more: bool) {
        let lines = self.trailers.get_or_insert_default();
        lines.extend_from_slice(more_lines);
        if more {
            return;
        }
        self.stage = ResponseStage::Over;
        if let Some(exchange) = self.exchange.as_deref_mut() {
            // Only clients that accept trailer fields get them.
            if scope::takes_trailers(exchange.request()) {
                exchange.finish_with_trailers(lines);
            } else {
                exchange.finish();
            }
        }
    }
}

impl Session for Http {
    fn exchange(&mut self) -> Option<&mut Exchange> {
        self.exchange.as_deref_mut()
    }

    fn take_concluded(&mut self) -> Option<Box<Exchange>> {
        let over = self.cut.is_some() || self.exchange.as_ref().is_some_and(|exchange| is_decided(exchange.progress()));
        if over {
            self.admission = None;
            self.exchange.take()
        } else {
            None
        }
    }

    fn release(&mut self) -> Option<Box<Exchange>> {
        self.admission = None;
        self.exchange.take()
    }

    fn was_interrupted(&self) -> bool {
        self.cut.is_some() || self.failure.is_some()
    }

    fn cut_short(&self) -> Option<&'static str> {
        self.cut
    }

    fn receive(&mut self, py: Python<'_>, io: &mut Io<'_>) -> PyResult<PollOutcome<ReceiveEvent>> {
        if !self.body_over && self.failure.is_none() {
            match self.read(io) {
                Ok(Some(Arrived::Bytes(count))) => {
                    return Ok(PollOutcome::Ready(piece(py, &io.scratch[..count], !self.body_over)));
                }
                Ok(Some(Arrived::Later(at))) => {
                    // The request waits for its client, not for the server: slow uploads must not fill the queue.
                    self.admission = None;
                    return Ok(PollOutcome::Pending(Some(at)));
                }
                Ok(Some(Arrived::End)) => {
                    self.body_over = true;
                    return Ok(PollOutcome::Ready(piece(py, b"", false)));
                }
                Ok(None) => return self.whole_body(py).map(PollOutcome::Ready),
                Err(failure) => self.fail(failure, io),
            }
        }
        if self.exchange.is_none() || self.was_interrupted() {
            return Ok(PollOutcome::Ready(ReceiveEvent::Disconnect));
        }
        match self.ended.map(|at| at + HALF_CLOSED_WAIT) {
            Some(at) if at <= io.now => {
                // A response would no longer be expected.
                self.lose();
                Ok(PollOutcome::Ready(ReceiveEvent::Disconnect))
            }
            at => Ok(PollOutcome::Pending(at)),
        }
    }

    fn pause(&mut self, now: Instant) {
        if let Some(exchange) = &mut self.exchange {
            let mut body = exchange.take_body();
            if let Body::Stream(stream) = &mut body {
                stream.pause(now);
            }
            exchange.put_body(body);
        }
    }

    fn send(&mut self, event: SendEvent<'_>, io: &mut Io<'_>) -> PyResult<()> {
        let SendEvent::Http(event) = event else { return Err(out_of_place("a WebSocket's message", "HTTP")) };
        if self.stage == ResponseStage::Over {
            return Err(event.out_of_order("after the response was complete"));
        }
        if self.exchange.is_none() || self.was_interrupted() {
            return Err(client_disconnected());
        }
        self.check_order(&event)?;
        match event {
            HttpSendEvent::Start { head, trailers } => {
                self.head = Some((head, io.now + HEAD_WAIT));
                self.trailers = trailers.then(Vec::new);
                Ok(())
            }
            HttpSendEvent::Body { bytes, more } => {
                let length = bytes.as_bytes().len() as u64;
                let size = if more { BodySize::Unknown } else { BodySize::Known(length) };
                if let Some(exchange) = self.begin(size, io) {
                    exchange.write(content(&bytes)).map_err(|_| client_disconnected())?;
                }
                self.after_content(more)
            }
            HttpSendEvent::File { file, length } => {
                if let Some(exchange) = self.begin(BodySize::Known(length), io) {
                    exchange.write_file(FileSpan { file, offset: 0, length });
                }
                self.after_content(false)
            }
            HttpSendEvent::Trailers { lines, more } => {
                self.trail(&lines, more);
                Ok(())
            }
            HttpSendEvent::Hint(lines) => {
                if let Some(exchange) = self.exchange.as_deref_mut() {
                    exchange.early_hints(&lines);
                }
                Ok(())
            }
        }
    }

    fn drain(&mut self, io: &mut Io<'_>) -> PyResult<PollOutcome<()>> {
        if self.cut.is_some() {
            return Err(client_disconnected());
        }
        let Some(exchange) = self.exchange.as_deref_mut() else { return Ok(PollOutcome::Ready(())) };
        if is_decided(exchange.progress()) {
            return Ok(PollOutcome::Ready(()));
        }
        let drained = self.stall.check(exchange, io);
        let takes_nothing = !exchange.has_failed();
        drained.map_err(|()| {
            if takes_nothing {
                self.cut = Some(Cause::WriteTimeout.text());
                if let Some(exchange) = self.exchange.as_deref_mut() {
                    exchange.abort_for(Cause::WriteTimeout);
                }
            }
            self.lose();
            client_disconnected()
        })
    }

    fn advance(&mut self, io: &mut Io<'_>) {
        let Some(exchange) = self.exchange.as_deref_mut() else { return };
        if exchange.has_failed() || (exchange.has_ended() && exchange.presence() == Presence::Gone) {
            self.lose();
        } else if exchange.has_ended() {
            self.ended.get_or_insert(io.now);
        }
        if self.head_due().is_some_and(|at| at <= io.now) {
            self.begin(BodySize::Unknown, io);
            self.end_event_stream();
        }
    }

    // `receive` and `drain` return their own deadlines.
    fn due(&self) -> Option<Instant> {
        None
    }

    fn head_due(&self) -> Option<Instant> {
        self.head.as_ref().map(|(_, at)| *at)
    }

    // Other responses have until the end of the graceful timeout.
    fn stop(&mut self, _: bool, _: &mut Io<'_>) {
        self.stopping = true;
        self.end_event_stream();
    }

    fn lose(&mut self) {
        if let Some(exchange) = self.exchange.as_deref_mut() {
            self.cut.get_or_insert(exchange.lose_client());
        }
    }

    fn returned(&mut self, io: &mut Io<'_>) -> Option<&'static str> {
        let exchange = self.exchange.as_deref_mut()?;
        match exchange.progress() {
            Progress::Waiting if self.head.is_none() => {
                exchange.refuse(Reject::AppFailed, io.clock);
                Some("returned without a response")
            }
            Progress::Waiting => {
                exchange.refuse(Reject::AppFailed, io.clock);
                Some("returned before it sent any content")
            }
            Progress::Begun => {
                exchange.abort();
                Some("returned before its response was complete")
            }
            Progress::Complete | Progress::Aborted => None,
        }
    }

    fn raised(&mut self, io: &mut Io<'_>) {
        if let Some(exchange) = self.exchange.as_deref_mut() {
            exchange.refuse(Reject::AppFailed, io.clock);
        }
    }
}

fn piece(py: Python<'_>, bytes: &[u8], more: bool) -> ReceiveEvent {
    ReceiveEvent::Request(PyBytes::new(py, bytes).unbind(), more)
}
