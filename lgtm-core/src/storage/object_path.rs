//! Which object paths a bucket takes.
//!
//! Paths are parsed, never encoded: a tenant id may hold `*`, `!`, `'` and must stand in the object's name as it is, since the real
//! Mimir, Loki and Tempo write it so. What is refused is what could mean another place to some back end or proxy.

use object_store::path::Path;

use crate::error::{Error, Result};

/// S3's bound on a key, in bytes; the prefix counts too, so a path may have somewhat less in practice.
const MAX_BYTES: usize = 1024;

/// Parses the path of an object.
pub(super) fn parse_object(text: &str) -> Result<Path> {
    if text.is_empty() {
        return Err(Error::InvalidInput("object path is empty".into()));
    }
    parse(text)
}

/// Parses the prefix of a listing; empty means everything in the bucket, and one trailing slash is allowed.
pub(super) fn parse_prefix(text: &str) -> Result<Path> {
    match text.strip_suffix('/').unwrap_or(text) {
        "" if text.is_empty() => Ok(Path::ROOT),
        prefix => parse(prefix),
    }
}

fn parse(text: &str) -> Result<Path> {
    let refuse = |why: &str| Error::InvalidInput(format!("object path {text:?} {why}"));
    // `Path::parse` would strip these silently, and one object would have several names.
    if text.starts_with('/') || text.ends_with('/') || text.is_empty() {
        return Err(refuse("starts or ends with a slash"));
    }
    let path = Path::parse(text).map_err(|e| refuse(&format!("is not valid: {e}")))?;
    check(&path).map_err(|why| refuse(&why))?;
    Ok(path)
}

/// Checks a path that is already parsed, as generic code hands it to the wrapped store.
pub(super) fn check(path: &Path) -> std::result::Result<(), String> {
    let text = path.as_ref();
    if text.len() > MAX_BYTES {
        return Err(format!(
            "has {} bytes, at most {MAX_BYTES} are allowed",
            text.len()
        ));
    }
    if text.contains('\\') {
        return Err("holds a backslash".into());
    }
    text.split('/').try_for_each(|segment| {
        if decodes_to_a_way_out(segment) {
            return Err(format!(
                "has the segment {segment:?}, which decodes to a way out"
            ));
        }
        Ok(())
    })
}

/// Whether percent-decoding, once or several times over, gives `.`, `..`, or a separator.
fn decodes_to_a_way_out(segment: &str) -> bool {
    let mut bytes = segment.as_bytes().to_vec();
    loop {
        if matches!(&bytes[..], b"." | b"..") || bytes.iter().any(|b| matches!(b, b'/' | b'\\' | 0))
        {
            return true;
        }
        let decoded = percent_decoded(&bytes);
        if decoded.len() == bytes.len() {
            return false;
        }
        bytes = decoded;
    }
}

/// Percent-decodes the value of a URL's parameter.
pub(super) fn percent_decoded_text(text: &str) -> Option<String> {
    String::from_utf8(percent_decoded(text.as_bytes())).ok()
}

fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    let hex = |b: u8| char::from(b).to_digit(16);
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if let (b'%', [high, low, after @ ..]) = (first, tail)
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            out.push((high * 16 + low) as u8);
            rest = after;
            continue;
        }
        out.push(*first);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn odd_but_honest_names_are_kept_as_they_are() {
        for good in [
            "a",
            "team*1!/b'(c)/..d/e.../meta.json",
            "rules/t/bmFtZQ==/Z3JvdXA=",
            "t/5f2a:1:2:3",
            "ü/ 50%/100%zz",
            "t/%41",
        ] {
            assert_eq!(parse_object(good).unwrap().as_ref(), good);
        }
    }

    #[test]
    fn ways_out_are_refused() {
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "../a",
            "a/../b",
            "a/./b",
            "a\\b",
            "%2e%2e/a",
            "a/%2E%2e",
            "a/%252e%252e",
            "a%2fb",
            "a%5Cb",
            "a/%2e.",
            "a\0b",
            "a\nb",
            "%00",
        ] {
            assert!(parse_object(bad).is_err(), "{bad:?}");
        }
        assert!(parse_object(&"a".repeat(1025)).is_err());
        assert!(parse_prefix("").unwrap().is_root());
        assert!(parse_prefix("/").is_err());
        assert_eq!(parse_prefix("a/").unwrap().as_ref(), "a");
    }

    proptest! {
        #[test]
        fn an_accepted_path_never_decodes_out_of_its_prefix(
            text in "([a.%/\\\\]|%2e|%2F|%25|%5c|\\PC){0,12}"
        ) {
            let Ok(path) = parse_object(&text) else { return Ok(()) };
            prop_assert_eq!(path.as_ref(), &text);
            let mut decoded = text.into_bytes();
            for _ in 0..8 {
                let shown = String::from_utf8_lossy(&decoded).into_owned();
                prop_assert!(!shown.split(['/', '\\']).any(|s| s == ".." || s == "." || s.is_empty()));
                decoded = percent_decoded(&decoded);
            }
        }
    }
}
