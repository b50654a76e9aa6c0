//! What applications send, to HTTP requests and to WebSockets.

use pyo3::prelude::*;
use pyo3::types::{PyAnyMethods, PyBytesMethods};

use super::message::{HttpSendEvent, Message, out_of_place};
use super::websocket_send::WebSocketSendEvent;

/// What an application sends, checked.
pub enum SendEvent<'py> {
    /// About a response.
    Http(HttpSendEvent<'py>),
    /// About a WebSocket.
    WebSocket(WebSocketSendEvent<'py>),
}

impl<'py> SendEvent<'py> {
    /// Bytes of content in it.
    pub fn size(&self) -> usize {
        match self {
            Self::Http(HttpSendEvent::Body { bytes, .. }) | Self::WebSocket(WebSocketSendEvent::Binary(bytes)) => {
                bytes.as_bytes().len()
            }
            // In characters, which is near enough.
            Self::WebSocket(WebSocketSendEvent::Text(text)) => text.len().unwrap_or_default(),
            _ => 0,
        }
    }

    /// Reads and checks a message to a WebSocket, or to an HTTP request.
    pub fn read(message: &Bound<'py, PyAny>, to_websocket: bool) -> PyResult<Self> {
        let message = Message::new(message)?;
        if to_websocket {
            return WebSocketSendEvent::of(message).map(Self::WebSocket);
        }
        HttpSendEvent::of(&message)?
            .map(Self::Http)
            .ok_or_else(|| out_of_place(&format!("a message of type {:?}", message.kind), "HTTP"))
    }
}
