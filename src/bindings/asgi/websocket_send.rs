//! The messages about WebSockets (ASGI, "WebSocket") that applications send.

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use super::message::{HttpSendEvent, Message, out_of_place};
use crate::http::head::ResponseHead;
use crate::http::status::Status;
use crate::interface::outgoing::{self, AppError};
use crate::websocket::close;

/// The end of the error about a code that cannot be sent.
const SENDABLE_CODES: &str = "must be a code that may be sent (RFC 6455 7.4): 1000 to 1003, 1007 to 1014, 3000 to 4999";

/// What an application sends to a WebSocket, checked.
pub enum WebSocketSendEvent<'py> {
    /// `websocket.accept`.
    Accept {
        /// The subprotocol that is chosen.
        protocol: Option<String>,
        /// The response's head, with the application's fields.
        head: ResponseHead,
    },
    /// `websocket.send` with text.
    Text(Bound<'py, PyString>),
    /// `websocket.send` with bytes.
    Binary(Bound<'py, PyBytes>),
    /// `websocket.close`.
    Close {
        /// The code.
        code: u16,
        /// The reason.
        reason: String,
    },
    /// `websocket.http.response.…`: a response instead.
    Denial(HttpSendEvent<'py>),
}

impl<'py> WebSocketSendEvent<'py> {
    /// Reads and checks a message.
    pub fn of(mut message: Message<'_, 'py>) -> PyResult<Self> {
        let py = message.fields.py();
        match message.kind.as_str() {
            "websocket.accept" => accept(&message),
            "websocket.send" => payload(&message),
            "websocket.close" => {
                let code = match message.get(intern!(py, "code"))?.filter(|code| !code.is_none()) {
                    Some(code) => code.extract::<i64>().map_err(|_| message.wrong_type("code", "an int", &code))?,
                    None => i64::from(close::NORMAL),
                };
                // As in other servers, 1005 stands for no code.
                let code = if code == i64::from(close::NO_STATUS) { i64::from(close::NORMAL) } else { code };
                let code = u16::try_from(code).ok().filter(|&code| close::is_sendable(code));
                let code =
                    code.ok_or_else(|| PyValueError::new_err(format!("websocket.close: \"code\" {SENDABLE_CODES}")))?;
                let reason = match message.get(intern!(py, "reason"))?.filter(|reason| !reason.is_none()) {
                    Some(reason) => {
                        let text =
                            reason.cast::<PyString>().map_err(|_| message.wrong_type("reason", "a str", &reason));
                        message.text("reason", text?)?.to_owned()
                    }
                    None => String::new(),
                };
                Ok(Self::Close { code, reason })
            }
            kind => {
                let error = out_of_place(&format!("a message of type {kind:?}"), "a WebSocket");
                let Some(kind) = kind.strip_prefix("websocket.http.").map(|rest| format!("http.{rest}")) else {
                    return Err(error);
                };
                message.kind = kind;
                HttpSendEvent::of(&message)?.map(Self::Denial).ok_or(error)
            }
        }
    }

    /// The error for a message at a wrong time.
    pub fn out_of_order(&self, why: &str) -> PyErr {
        let kind = match self {
            Self::Accept { .. } => "accept",
            Self::Text(_) | Self::Binary(_) => "send",
            Self::Close { .. } => "close",
            Self::Denial(_) => "http.response",
        };
        PyRuntimeError::new_err(format!("websocket.{kind} was sent {why}"))
    }
}

fn accept<'py>(message: &Message<'_, 'py>) -> PyResult<WebSocketSendEvent<'py>> {
    let py = message.fields.py();
    let protocol = match message.get(intern!(py, "subprotocol"))?.filter(|protocol| !protocol.is_none()) {
        Some(protocol) => {
            let text = protocol.cast::<PyString>().map_err(|_| message.wrong_type("subprotocol", "a str", &protocol));
            Some(message.text("subprotocol", text?)?.to_owned())
        }
        None => None,
    };
    let status = Status::new(101).ok_or_else(|| PyValueError::new_err("101 is no status"))?;
    let mut head = ResponseHead::new(status, status.reason().as_bytes());
    let mut has_handshake_field = false;
    message.each_header(|name, value| {
        has_handshake_field |= name.get(..14).is_some_and(|start| start.eq_ignore_ascii_case(b"sec-websocket-"));
        if name.eq_ignore_ascii_case(b"content-length") {
            return Err(AppError::ContentLengthMalformed);
        }
        outgoing::field(&mut head, name, value).map(drop)
    })?;
    if has_handshake_field {
        let message =
            "websocket.accept: \"headers\" must not have Sec-WebSocket fields; choose a subprotocol by \"subprotocol\"";
        return Err(PyValueError::new_err(message));
    }
    Ok(WebSocketSendEvent::Accept { protocol, head })
}

fn payload<'py>(message: &Message<'_, 'py>) -> PyResult<WebSocketSendEvent<'py>> {
    let py = message.fields.py();
    let given = |key| message.get(key).map(|value| value.filter(|value| !value.is_none()));
    match (given(intern!(py, "bytes"))?, given(intern!(py, "text"))?) {
        (Some(_), None) => Ok(WebSocketSendEvent::Binary(message.bytes(intern!(py, "bytes"))?)),
        (None, Some(text)) => match text.cast_into::<PyString>() {
            Ok(text) => message.text("text", &text).map(drop).map(|()| WebSocketSendEvent::Text(text)),
            Err(error) => Err(message.wrong_type("text", "a str", &error.into_inner())),
        },
        _ => Err(PyValueError::new_err("websocket.send: either \"bytes\" or \"text\" is required")),
    }
}
