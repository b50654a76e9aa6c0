//! Judges what clients send, case by case: on standard input a length (32 bits, little-endian) and so many bytes; on
//! standard output one line for each, first how the connection stands at the end, then its requests:
//!
//! ```text
//! END [METHOD,TARGET,BODY,END,PERSISTENT]…
//! ```
//!
//! The first three in hexadecimal, the ends counted from the case's first byte.

#[path = "../oracle/requests.rs"]
mod requests;

use std::fmt::Write as _;
use std::io::{self, BufWriter, ErrorKind, Read, Write};

use requests::{End, replay};
use wsgi_core::http::limits::Limits;

fn main() -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), BufWriter::new(io::stdout().lock()));
    let limits = Limits::default();
    loop {
        let mut length = [0; 4];
        match input.read_exact(&mut length) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return output.flush(),
            result => result?,
        }
        let mut case = vec![0; u32::from_le_bytes(length) as usize];
        input.read_exact(&mut case)?;
        let replay = replay([case.as_slice()], &limits);
        let end = match replay.end {
            End::Refused(reject) => format!("{reject:?}"),
            other => format!("{other:?}").to_lowercase(),
        };
        write!(output, "{end}")?;
        for request in replay.requests {
            let [method, target, body] =
                [&request.method, &request.target, &request.body].map(|bytes| hexadecimal(bytes));
            write!(output, " {method},{target},{body},{},{}", request.end, u8::from(request.framing.persistent))?;
        }
        writeln!(output)?;
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
