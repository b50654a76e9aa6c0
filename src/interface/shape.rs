//! The shape of a request: most requests have the same field names in the same order as earlier ones, and then have the same
//! variables, from the same lines. An environment can be built once for each shape.

use crate::http::head::{RequestHead, Version};
use crate::http::target::Form;

use super::cgi::{Facts, Name, has_repeats, variable};

/// Requests with longer names, or more lines than an integer has bits, have no shape.
const MAX_NAME_BYTES: usize = 64;
const MAX_LINES: usize = u64::BITS as usize;

/// The version, the names of all field lines in order, and whether the length of the body is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    version: Version,
    has_length: bool,
    names: Vec<Box<[u8]>>,
}

impl Shape {
    /// The shape of a request; none if its variables do not come from one line each: when lines are joined, or replaced by
    /// an absolute-form target or the fields of a proxy.
    pub fn of(head: &RequestHead, facts: &Facts<'_>) -> Option<Self> {
        let is_plain = is_plain(head, facts) && head.fields().all(|(name, _)| name.len() <= MAX_NAME_BYTES);
        (is_plain && !has_repeats(head)).then(|| Self {
            version: head.version(),
            has_length: facts.body_length.is_some(),
            names: head.fields().map(|(name, _)| name.into()).collect(),
        })
    }

    /// The lines of a request of this shape that are not the same as those of another, by their bits. `same` returns
    /// whether the line of that number is the same as the other's. None for a request of another shape.
    pub fn differences(
        &self,
        head: &RequestHead,
        facts: &Facts<'_>,
        same: impl Fn(usize, &[u8]) -> bool,
    ) -> Option<u64> {
        let is_alike = is_plain(head, facts)
            && self.version == head.version()
            && self.has_length == facts.body_length.is_some()
            && self.names.len() == head.fields().len();
        if !is_alike {
            return None;
        }
        let mut different = 0;
        for (number, ((line, name), known)) in head.lines().zip(&self.names).enumerate() {
            if !same(number, line) {
                if *name != **known {
                    return None;
                }
                different |= 1 << number;
            }
        }
        Some(different)
    }

    /// The version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The variable of each line, in order; none for a line that is dropped.
    pub fn variables(&self) -> impl Iterator<Item = Option<Name<'_>>> {
        let facts = Facts { body_length: self.has_length.then_some(0), origin: None };
        self.names.iter().map(move |name| variable(facts, name))
    }
}

/// A number that is the same for requests of one shape, and differs between most shapes.
pub fn digest(head: &RequestHead, facts: &Facts<'_>) -> u32 {
    let start = u32::from(facts.body_length.is_some()) + 2 * u32::from(head.version() == Version::Http10);
    head.fields().fold(start, |digest, (name, _)| {
        let first = name.first().copied().unwrap_or_default();
        (digest ^ u32::from_le_bytes([name.len().to_le_bytes()[0], first, 0, 0]))
            .wrapping_mul(0x9e37_79b1)
            .rotate_left(7)
    })
}

fn is_plain(head: &RequestHead, facts: &Facts<'_>) -> bool {
    facts.origin.is_none() && head.form() == Form::Origin && head.fields().len() <= MAX_LINES
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_BODY: Facts<'static> = Facts { body_length: None, origin: None };
    const EMPTY_BODY: Facts<'static> = Facts { body_length: Some(0), origin: None };

    fn head(line: &str, names: &[&str]) -> RequestHead {
        let fields: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, &b"v"[..])).collect();
        RequestHead::sample(line, &fields)
    }

    #[test]
    fn shape_is_the_version_the_names_and_whether_there_is_a_length() {
        let line = "GET / HTTP/1.1";
        let this = Shape::of(&head(line, &["Host", "X-A"]), &NO_BODY).unwrap();
        let alike = RequestHead::sample("POST /b?c HTTP/1.1", &[("Host", b"b"), ("X-A", b"")]);
        let fits = |head: &RequestHead, facts: &Facts<'_>| this.differences(head, facts, |_, _| false).is_some();
        assert!(fits(&alike, &NO_BODY));
        assert_eq!(Shape::of(&alike, &NO_BODY).as_ref(), Some(&this));
        assert_eq!(digest(&alike, &NO_BODY), digest(&head(line, &["Host", "X-A"]), &NO_BODY));
        assert!(!fits(&alike, &EMPTY_BODY));
        for names in [&["Host"][..], &["X-A", "Host"], &["Host", "x-a"], &["Host", "X-B"], &["Host", "X-A", "X-B"]] {
            assert!(!fits(&head(line, names), &NO_BODY), "{names:?}");
        }
        assert!(!fits(&head("GET / HTTP/1.0", &["Host", "X-A"]), &NO_BODY));
    }

    #[test]
    fn differences_are_the_lines_that_are_not_the_same() {
        let before = RequestHead::sample("GET / HTTP/1.1", &[("Host", b"a"), ("X-A", b"1"), ("X-B", b"")]);
        let after = RequestHead::sample("GET / HTTP/1.1", &[("Host", b"a"), ("X-A", b"2"), ("X-B", b"")]);
        let shape = Shape::of(&before, &NO_BODY).unwrap();
        let lines: Vec<&[u8]> = before.lines().map(|(line, _)| line).collect();
        assert_eq!(lines, [&b"Host: a"[..], b"X-A: 1", b"X-B: "]);
        let same = |number: usize, line: &[u8]| lines[number] == line;
        assert_eq!(shape.differences(&before, &NO_BODY, same), Some(0));
        assert_eq!(shape.differences(&after, &NO_BODY, same), Some(0b010));
        assert_eq!(shape.differences(&after, &NO_BODY, |_, _| false), Some(0b111));
    }

    #[test]
    fn variables_are_those_that_the_request_itself_gives() {
        let names = ["Host", "Content-Type", "Content-Length", "Proxy", "X_A", "X-A", "Transfer-Encoding"];
        for facts in [NO_BODY, EMPTY_BODY] {
            let head = head("GET / HTTP/1.1", &names);
            let shape = Shape::of(&head, &facts).unwrap();
            let of_lines = shape.variables().flatten().map(|variable| match variable {
                Name::Field(name) => name,
                _ => b"Content-Type",
            });
            let of_lines: Vec<&[u8]> = of_lines.collect();
            let mut emitted: Vec<&[u8]> = Vec::new();
            super::super::cgi::variables(&head, &facts, |variable, _| match variable {
                Name::Field(name) => {
                    emitted.extend(names.iter().map(|known| known.as_bytes()).filter(|known| *known == name));
                }
                Name::ContentType => emitted.push(b"Content-Type"),
                _ => {}
            });
            assert_eq!(of_lines, emitted);
        }
    }

    #[test]
    fn variables_of_more_than_one_line_have_no_shape() {
        assert!(Shape::of(&head("GET / HTTP/1.1", &["Host", "X-A", "x-a"]), &NO_BODY).is_none());
        assert!(Shape::of(&head("GET http://b/ HTTP/1.1", &["Host"]), &NO_BODY).is_none());
        assert!(Shape::of(&head("OPTIONS * HTTP/1.1", &["Host"]), &NO_BODY).is_none());
        let long = "X".repeat(MAX_NAME_BYTES + 1);
        assert!(Shape::of(&head("GET / HTTP/1.1", &["Host", &long]), &NO_BODY).is_none());
        let many: Vec<String> = (0..=MAX_LINES).map(|number| format!("X-{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(Shape::of(&head("GET / HTTP/1.1", &many), &NO_BODY).is_none());
    }
}
