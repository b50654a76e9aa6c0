use wsgi_core::http::limits::Limits;
use wsgi_core::http::reject::Reject;
use wsgi_core::http1::body::{ChunkEvent, ChunkedDecoder};

use super::{TIGHT, cuts};

/// A chunked body:
///
/// 1. Its content and its end are the same however the bytes are cut.
/// 2. The decoder never gives more than it was fed, nor more than the limit, and counts what it gives.
/// 3. What is refused stays refused, and what is over stays over.
/// 4. An accepted one is chunks by the letter of RFC 9112 §7.1, and its content, written anew in one, is the same.
pub fn chunked(bytes: &[u8]) {
    for limits in [Limits::default(), TIGHT] {
        let whole = decode(vec![bytes], &limits);
        for pieces in cuts(bytes) {
            assert_eq!(decode(pieces, &limits), whole);
        }
        let (content, end) = whole;
        assert!(content.len() as u64 <= limits.body_size);
        let Some(Ok(consumed)) = end else { continue };
        // Each chunk costs at least five bytes beside its content, and the last one as many.
        assert!(consumed >= content.len() + if content.is_empty() { 5 } else { 10 } && consumed <= bytes.len());
        assert_eq!(by_the_letter(&bytes[..consumed]), Some(content.clone()));
        let size = if content.is_empty() { Vec::new() } else { format!("{:X}\r\n", content.len()).into_bytes() };
        let line_end: &[u8] = if content.is_empty() { b"" } else { b"\r\n" };
        let anew = [&size, content.as_slice(), line_end, b"0\r\n\r\n"].concat();
        assert_eq!(decode(vec![&anew], &limits), (content, Some(Ok(anew.len()))));
    }
}

// The content of a whole chunked body, as somebody reads it who sees all of it. `None`: it is none.
fn by_the_letter(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    let line = |body: &mut &[u8]| -> Option<Vec<u8>> {
        let end = body.iter().position(|&byte| byte == b'\n')?;
        let line = body[..end].strip_suffix(b"\r").filter(|line| !line.contains(&b'\r'))?.to_vec();
        *body = &body[end + 1..];
        Some(line)
    };
    loop {
        let size_line = line(&mut body)?;
        let size_line = String::from_utf8_lossy(&size_line);
        let (size, extension) = size_line.split_at(size_line.find([';', ' ', '\t']).unwrap_or(size_line.len()));
        if size.starts_with('+') || !are_extensions(extension) {
            return None;
        }
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            while !line(&mut body)?.is_empty() {}
            return body.is_empty().then_some(content);
        }
        content.extend_from_slice(body.get(..size)?);
        body = body[size..].strip_prefix(b"\r\n")?;
    }
}

// *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] ), RFC 9112 §7.1.1
fn are_extensions(mut text: &str) -> bool {
    let space = [' ', '\t'];
    let token = |text: &str| {
        text.find(|character: char| !(character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(character)))
            .unwrap_or(text.len())
    };
    while !text.is_empty() {
        let Some(name) = text.trim_start_matches(space).strip_prefix(';') else { return false };
        let name = name.trim_start_matches(space);
        let (name, rest) = name.split_at(token(name));
        if name.is_empty() {
            return false;
        }
        text = rest;
        let Some(value) = rest.trim_start_matches(space).strip_prefix('=') else { continue };
        let value = value.trim_start_matches(space);
        let length = if value.starts_with('"') { quoted(value) } else { token(value) };
        if length == 0 {
            return false;
        }
        text = &value[length..];
    }
    true
}

// The length of the quoted string that a text begins with (RFC 9110 §5.6.4); 0 if it has no end or a control character.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if character != '\t' && character.is_ascii_control() => return 0,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    0
}

// The content, and after how many bytes the body was over, or why it was refused; `None`: it goes on.
fn decode(pieces: Vec<&[u8]>, limits: &Limits) -> (Vec<u8>, Option<Result<usize, Reject>>) {
    let mut decoder = ChunkedDecoder::new(limits);
    let (mut content, mut consumed) = (Vec::new(), 0);
    for piece in pieces {
        let mut rest = piece;
        loop {
            match decoder.decode(rest) {
                Ok(step) => {
                    consumed += step.consumed;
                    rest = &rest[step.consumed..];
                    match step.event {
                        ChunkEvent::Data(data) => {
                            assert!(!data.is_empty());
                            content.extend_from_slice(data);
                            assert_eq!(decoder.received(), content.len() as u64);
                            assert!(content.len() <= consumed);
                        }
                        ChunkEvent::More => {
                            assert!(rest.is_empty());
                            break;
                        }
                        ChunkEvent::End => {
                            let again = decoder.decode(b"5\r\n").map(|step| (step.consumed, step.event));
                            assert_eq!(again, Ok((0, ChunkEvent::End)));
                            return (content, Some(Ok(consumed)));
                        }
                    }
                }
                Err(reject) => {
                    assert_eq!(decoder.decode(b"0\r\n\r\n"), Err(reject));
                    return (content, Some(Err(reject)));
                }
            }
        }
    }
    (content, None)
}
