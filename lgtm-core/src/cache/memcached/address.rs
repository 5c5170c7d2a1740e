//! Names of servers, their order, and which of them a key belongs to.

use std::cmp::Ordering;

use xxhash_rust::xxh64::xxh64;

use crate::cache::jump::jump_hash;
use crate::error::{Error, Result};

/// Where servers are, as the setting `addresses` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// `host:port`: one server, whose name is resolved whenever it is called.
    Server(String),
    /// `dns+host:port`: a server at each address of the name.
    Names(String),
}

impl Address {
    /// Reads one of the comma-separated parts.
    ///
    /// # Errors
    /// `InvalidInput` for what is no `host:port`, and for service records, which are not looked up.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::InvalidInput(format!("address of a memcached server {text:?}: {why}"))
        };
        if text.starts_with("dnssrv") {
            return Err(bad(
                "service records (dnssrv+, dnssrvnoa+) are not looked up; name the port: dns+host:port",
            ));
        }
        let (place, is_names) = match text.strip_prefix("dns+") {
            Some(place) => (place, true),
            None => (text, false),
        };
        let (host, port) = place.rsplit_once(':').ok_or_else(|| bad("has no port"))?;
        if host.is_empty() || port.parse::<u16>().is_ok_and(|p| p == 0) {
            return Err(bad("host and port must be named"));
        }
        port.parse::<u16>()
            .map_err(|_| bad("the port is no number up to 65535"))?;
        let place = place.to_owned();
        Ok(if is_names {
            Self::Names(place)
        } else {
            Self::Server(place)
        })
    }
}

/// The order of servers in which buckets are counted: runs of digits compare as numbers, so that a server with the next number comes last and
/// takes its share of the keys without moving others.
pub fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    while let (Some(x), Some(y)) = (left.chars().next(), right.chars().next()) {
        let order = if x.is_ascii_digit() && y.is_ascii_digit() {
            let (m, n) = (take_number(&mut left), take_number(&mut right));
            m.len().cmp(&n.len()).then(m.cmp(n))
        } else {
            left = &left[x.len_utf8()..];
            right = &right[y.len_utf8()..];
            x.cmp(&y)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    left.len().cmp(&right.len()).then_with(|| a.cmp(b))
}

/// Takes the digits at the begin, without leading zeros.
fn take_number<'a>(text: &mut &'a str) -> &'a str {
    let end = text.find(|c: char| !c.is_ascii_digit());
    let (digits, rest) = text.split_at(end.unwrap_or(text.len()));
    *text = rest;
    digits.trim_start_matches('0')
}

/// Which of `servers`, in natural order, a key belongs to; 0 if there are none.
pub fn picked_server(key: &str, servers: usize) -> usize {
    match servers {
        0 | 1 => 0,
        n => jump_hash(
            xxh64(key.as_bytes(), 0),
            u32::try_from(n).unwrap_or(u32::MAX),
        ) as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, wanted) in [
            ("a:11211", Some(Address::Server("a:11211".into()))),
            ("[::1]:11211", Some(Address::Server("[::1]:11211".into()))),
            ("dns+a.b:1", Some(Address::Names("a.b:1".into()))),
            ("a", None),
            (":1", None),
            ("a:0", None),
            ("a:70000", None),
            ("dnssrv+_memcached._tcp.a", None),
        ] {
            assert_eq!(Address::parse(text).ok(), wanted, "{text}");
        }
    }

    #[test]
    fn digits_compare_as_numbers() {
        let mut names = [
            "m-10:1", "m-9:1", "m-9:02", "m:1", "m-010:1", "a-100:1", "m-",
        ];
        names.sort_by(|a, b| natural_order(a, b));
        let wanted = [
            "a-100:1", "m-", "m-9:1", "m-9:02", "m-010:1", "m-10:1", "m:1",
        ];
        assert_eq!(names, wanted);
    }
}
