//! Requests and answers of the meta protocol, as bytes. No I/O.
//!
//! A batch of requests is sent quietly, so that only hits and faults are answered, and ends in `mn`, whose answer `MN` ends the answers. The number
//! of a key in its batch goes with it (`O`) and comes back with its value.

use crate::cache::remote::Failure;

/// Ends a batch.
pub(super) const END: &[u8] = b"mn\r\n";

/// Bytes of a line that is an answer; more is no answer.
pub(super) const MAX_LINE: usize = 2048;

/// Memcached takes a larger time for a moment since 1970.
const MAX_TTL_SECONDS: u64 = 30 * 86_400;

pub(super) fn put_get(out: &mut Vec<u8>, key: &str, number: usize) {
    out.extend_from_slice(b"mg ");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b" v q O");
    put_decimal(out, number as u64);
    out.extend_from_slice(b"\r\n");
}

/// Everything before the value, which `\r\n` follows. Times beyond 30 days, which memcached does not know, become 30 days.
pub(super) fn put_set(out: &mut Vec<u8>, key: &str, bytes: usize, ttl_seconds: Option<u64>) {
    out.extend_from_slice(b"ms ");
    out.extend_from_slice(key.as_bytes());
    out.push(b' ');
    put_decimal(out, bytes as u64);
    if let Some(seconds) = ttl_seconds {
        out.extend_from_slice(b" T");
        put_decimal(out, seconds.min(MAX_TTL_SECONDS));
    }
    out.extend_from_slice(b" q\r\n");
}

pub(super) fn put_delete(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(b"md ");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b" q\r\n");
}

fn put_decimal(out: &mut Vec<u8>, n: u64) {
    let mut digits = [0; 20];
    let (mut at, mut rest) = (digits.len(), n);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// A line of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// A value of so many bytes follows, of the key with this number.
    Value { bytes: usize, number: usize },
    /// The batch is over.
    End,
    /// A request went well that was not to be answered; also a miss.
    Fine,
    /// A value was not stored.
    NotStored,
    /// The server refused one request.
    Refused,
}

/// Reads a line, without its end.
pub(super) fn read_line(line: &[u8]) -> Result<Answer, Failure> {
    match line {
        b"MN" => return Ok(Answer::End),
        b"HD" | b"EN" | b"NF" => return Ok(Answer::Fine),
        b"NS" | b"EX" => return Ok(Answer::NotStored),
        _ => {}
    }
    if line.starts_with(b"SERVER_ERROR") {
        return Ok(Answer::Refused);
    }
    // The rest of the batch may be answered in a way that nobody can tell from values: too long a key, an older server.
    if line.starts_with(b"CLIENT_ERROR") || line.starts_with(b"ERROR") {
        return Err(Failure::Server);
    }
    let line = line.strip_prefix(b"VA ").ok_or(Failure::Protocol)?;
    let mut parts = line.split(|b| *b == b' ').filter(|p| !p.is_empty());
    let bytes = decimal(parts.next().unwrap_or_default())?;
    let number = parts.find_map(|flag| flag.strip_prefix(b"O"));
    let number = decimal(number.unwrap_or_default())?;
    Ok(Answer::Value { bytes, number })
}

fn decimal(digits: &[u8]) -> Result<usize, Failure> {
    if !(1..=18).contains(&digits.len()) {
        return Err(Failure::Protocol);
    }
    digits.iter().try_fold(0, |n, digit| match digit {
        b'0'..=b'9' => Ok(n * 10 + usize::from(digit - b'0')),
        _ => Err(Failure::Protocol),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_as_the_protocol_has_them() {
        let mut out = Vec::new();
        put_get(&mut out, "k", 120);
        put_set(&mut out, "k", 0, None);
        put_set(&mut out, "k", 7, Some(u64::MAX));
        put_delete(&mut out, "k");
        let wanted = "mg k v q O120\r\nms k 0 q\r\nms k 7 T2592000 q\r\nmd k q\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }

    #[test]
    fn answers_are_read() {
        let value = |bytes, number| Ok(Answer::Value { bytes, number });
        for (line, wanted) in [
            ("VA 5 O12", value(5, 12)),
            ("VA 0 f1 O0 s2", value(0, 0)),
            ("VA 5", Err(Failure::Protocol)),
            ("VA -5 O1", Err(Failure::Protocol)),
            ("VA 99999999999999999999 O1", Err(Failure::Protocol)),
            ("MN", Ok(Answer::End)),
            ("HD", Ok(Answer::Fine)),
            ("NS", Ok(Answer::NotStored)),
            (
                "SERVER_ERROR object too large for cache",
                Ok(Answer::Refused),
            ),
            ("ERROR", Err(Failure::Server)),
            ("HTTP/1.1 400 Bad Request", Err(Failure::Protocol)),
            ("", Err(Failure::Protocol)),
        ] {
            assert_eq!(read_line(line.as_bytes()), wanted, "{line}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(line in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = read_line(&line);
        }
    }
}
