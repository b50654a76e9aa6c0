//! What applications receive.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::websocket::close::CloseStatus;
use crate::websocket::decoder::WebSocketMessage;

/// An event for the application. It becomes a dict only when no lock is held: making one may set off a collection, and that any
/// code.
pub enum ReceiveEvent {
    /// A piece of the request's body, and whether there is more.
    Request(Py<PyBytes>, bool),
    /// The client has gone, or the response is complete.
    Disconnect,
    /// A client asks for a WebSocket.
    Connect,
    /// A message of a WebSocket's client.
    Received(WebSocketMessage),
    /// The WebSocket is closed.
    Closed(CloseStatus),
}

impl ReceiveEvent {
    /// The event as the dict that ASGI specifies.
    pub fn into_dict(self, py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        let message = PyDict::new(py);
        let kind = match self {
            Self::Request(body, more) => {
                message.set_item(intern!(py, "body"), body)?;
                message.set_item(intern!(py, "more_body"), more)?;
                intern!(py, "http.request")
            }
            Self::Disconnect => intern!(py, "http.disconnect"),
            Self::Connect => intern!(py, "websocket.connect"),
            Self::Received(WebSocketMessage::Text(text)) => {
                message.set_item(intern!(py, "text"), text)?;
                intern!(py, "websocket.receive")
            }
            Self::Received(WebSocketMessage::Binary(bytes)) => {
                message.set_item(intern!(py, "bytes"), PyBytes::new(py, &bytes))?;
                intern!(py, "websocket.receive")
            }
            Self::Closed(CloseStatus { code, reason }) => {
                message.set_item(intern!(py, "code"), code)?;
                message.set_item(intern!(py, "reason"), reason)?;
                intern!(py, "websocket.disconnect")
            }
        };
        message.set_item(intern!(py, "type"), kind)?;
        Ok(message)
    }
}
