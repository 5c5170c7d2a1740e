//! URLs that are longer than the `http` crate holds, whose places are numbers of 16 bits.
//!
//! Go's servers, and so the peers, take a URL of a megabyte, and dashboards with long lists in their selectors send such. The stream
//! holds back a request's first line until it is whole, cuts the query off where the line is too long, and hands it around the parser;
//! who serves the request reads it with [`UrlQuery`]. A line that is not long is not held back.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Extensions, Uri};

use crate::limits::{Inflight, Ticket};

/// The longest target that is left to the parser, whose own bound is 65,534.
const PARSED_BYTES: usize = 64_000;
/// The longest path before a query that is cut off.
const MAX_PATH_BYTES: usize = 8 << 10;

/// A query that went around the parser, with the room it takes.
#[derive(Debug, Clone)]
pub(super) struct LongQuery(Arc<(String, Ticket)>);

/// The query of a request's URL as it was sent, if there is one. Takes the place of axum's `RawQuery`, which does not see long ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlQuery(pub Option<String>);

impl UrlQuery {
    /// The query of a request, of which the URL and the extensions are given.
    pub fn of<'a>(uri: &'a Uri, extensions: &'a Extensions) -> Option<&'a str> {
        match extensions.get::<LongQuery>() {
            Some(LongQuery(long)) => Some(&long.0),
            None => uri.query(),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for UrlQuery {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let query = Self::of(&parts.uri, &parts.extensions);
        Ok(Self(query.map(str::to_owned)))
    }
}

/// What was read of a connection and not yet given on: a first line that is not whole, and what came with its end.
#[derive(Debug)]
pub(super) struct HeldLine {
    bytes: Vec<u8>,
    /// How much of it was given on.
    given: usize,
    /// Whether the line's end is still waited for.
    is_open: bool,
    max_bytes: usize,
    room: Arc<Inflight>,
    ticket: Option<Ticket>,
}

impl HeldLine {
    /// Nothing held. Lines have `max_bytes` at most; those of all connections that are longer than the parser takes share `room`.
    pub(super) fn new(max_bytes: usize, room: Arc<Inflight>) -> Self {
        Self {
            bytes: Vec::new(),
            given: 0,
            is_open: false,
            max_bytes,
            room,
            ticket: None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether the first bytes of a request begin a line that is to be held back.
    pub(super) fn is_long(begin: &[u8]) -> bool {
        let methods: [&[u8]; 2] = [b"GET ", b"HEAD "];
        let mut methods = methods.iter();
        methods.any(|m| begin.starts_with(m) || m.starts_with(begin))
            && memchr::memchr(b'\n', begin).is_none_or(|end| end > PARSED_BYTES)
    }

    /// Takes in bytes of the line. Gives its query, if that is cut off; then, or when it is not to be cut, the line is open no more.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Option<LongQuery> {
        let end = memchr::memchr(b'\n', bytes).map(|at| self.bytes.len() + at);
        self.bytes.extend_from_slice(bytes);
        self.is_open = true;
        if self.bytes.len() > PARSED_BYTES && self.ticket.is_none() {
            let mut ticket = self.room.ticket();
            // The line, and the query that is cut from it.
            if ticket.add(2 * self.max_bytes as u64).is_err() {
                self.close();
                return None;
            }
            self.ticket = Some(ticket);
        }
        if end.is_none() && self.bytes.len() <= self.max_bytes {
            return None;
        }
        self.close();
        let ticket = self.ticket.take()?;
        let line = &self.bytes[..end?];
        let (head, query) = cut(line).filter(|_| line.len() <= self.max_bytes)?;
        let query = String::from_utf8(self.bytes[query].to_vec()).ok()?;
        self.bytes.drain(head);
        self.bytes.shrink_to(PARSED_BYTES);
        Some(LongQuery(Arc::new((query, ticket))))
    }

    /// The line is given on as it is.
    pub(super) fn close(&mut self) {
        self.is_open = false;
    }

    /// What is to be given on next; empty if there is nothing.
    pub(super) fn next(&self) -> &[u8] {
        if self.is_open {
            &[]
        } else {
            &self.bytes[self.given..]
        }
    }

    /// So much of it was given on.
    pub(super) fn gave(&mut self, bytes: usize) {
        self.given += bytes;
        if self.given == self.bytes.len() {
            (self.bytes, self.given, self.ticket) = (Vec::new(), 0, None);
        }
    }
}

type Place = std::ops::Range<usize>;

/// Where in a line the query stands, first with its `?`, then without; `None` if it is to stay.
fn cut(line: &[u8]) -> Option<(Place, Place)> {
    let from = memchr::memchr(b' ', line)? + 1;
    let to = memchr::memrchr(b' ', line).filter(|to| *to > from)?;
    let target = &line[from..to];
    let mark = memchr::memchr(b'?', target)?;
    let is_cut = target.len() > PARSED_BYTES
        && mark <= MAX_PATH_BYTES
        && target[mark..].iter().all(u8::is_ascii_graphic);
    is_cut.then_some((from + mark..to, from + mark + 1..to))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::InflightBound;

    const MAX: usize = 200_000;

    fn room(max: u64) -> Arc<Inflight> {
        let bound = |max| InflightBound { max, hint: "" };
        Arc::new(Inflight::new(bound(0), bound(max)))
    }

    /// What is given on of `bytes` that come in pieces, and the query.
    fn through(bytes: &[u8], piece: usize, room: &Arc<Inflight>) -> (Vec<u8>, Option<String>) {
        let mut held = HeldLine::new(MAX, Arc::clone(room));
        let (mut out, mut query) = (Vec::new(), None);
        for (n, part) in bytes.chunks(piece).enumerate() {
            if n == 0 && !HeldLine::is_long(part) || n > 0 && !held.is_open() {
                out.extend_from_slice(part);
                continue;
            }
            query = query.or(held.take(part));
            let next = held.next().to_vec();
            held.gave(next.len());
            out.extend(next);
        }
        held.close();
        out.extend_from_slice(held.next());
        (out, query.map(|LongQuery(q)| q.0.clone()))
    }

    #[test]
    fn the_query_of_a_long_line_goes_around_the_parser() {
        let room = room(1 << 20);
        let query = format!("match[]={}", "a".repeat(100_000));
        let long = format!("GET /api/x?{query} HTTP/1.1\r\nhost: a\r\n\r\n");
        for piece in [1, 7, 8192, 1 << 20] {
            let (out, found) = through(long.as_bytes(), piece, &room);
            let out = String::from_utf8(out).unwrap();
            let is_cut = out == "GET /api/x HTTP/1.1\r\nhost: a\r\n\r\n";
            assert!(is_cut, "{piece}: {:.40}", out);
            assert!(found.as_ref() == Some(&query), "{piece}");
            assert_eq!(room.bytes(), 0, "given back");
        }
    }

    #[test]
    fn other_lines_stay_as_they_are() {
        let a = "a".repeat(100_000);
        for line in [
            format!("GET /{a} HTTP/1.1\r\n\r\n"),
            format!("GET /{a}?{a} HTTP/1.1\r\n\r\n"),
            format!("POST /x?{a} HTTP/1.1\r\n\r\n"),
            format!("GET /x?{a}\u{e4} HTTP/1.1\r\n\r\n"),
            format!("GET /x?{a}{a} HTTP/1.1\r\n\r\n"),
            format!("GET /x?{a}\r\n\r\n"),
            format!("GET /x?{a}"),
            "GET /x?a HTTP/1.1\r\n\r\n".to_owned(),
        ] {
            let (out, query) = through(line.as_bytes(), 1000, &room(1 << 20));
            assert!(out == line.as_bytes() && query.is_none(), "{line:.40}");
        }
        let long = format!("GET /x?{a} HTTP/1.1\r\n\r\n");
        let (out, query) = through(long.as_bytes(), 1000, &room(100_000));
        assert!(out == long.as_bytes() && query.is_none(), "no room");
    }

    proptest! {
        #[test]
        fn short_lines_pass_in_whatever_pieces(text in "(GET |HEAD |POST |)/?[a-z?& ]{0,40}\r?\n?[a-z\n]{0,20}", piece in 1usize..20) {
            let (out, query) = through(text.as_bytes(), piece, &room(0));
            prop_assert_eq!((out, query), (text.into_bytes(), None));
        }
    }
}
