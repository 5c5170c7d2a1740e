//! Requests of `tempopb.StreamingQuerier`, out of protobuf. Times of 0 are as if they were not there.

use lgtm_core::codec::Reader;
use lgtm_core::codec::protobuf::{bytes_tag, skip, varint_tag};
use lgtm_core::error::DecodeError;

use super::legacy::TagSearch;
use super::metrics::MetricsAsked;
use super::metrics_answer::MetricsKind;
use super::params::{MetricsTimes, SearchTimes};
use super::search::SearchAsked;
use super::tag_names::NamesAsked;
use super::tag_values::ValuesAsked;

fn text(r: &mut Reader<'_>) -> Result<String, DecodeError> {
    let bytes = r.bytes()?;
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(r.error("a text is not UTF-8")),
    }
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn time(number: u64) -> Option<u64> {
    (number > 0).then_some(number)
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// `SearchRequest`
pub(super) fn search(bytes: &[u8]) -> Result<SearchAsked, DecodeError> {
    let mut r = Reader::new("search request", bytes);
    let mut out = SearchAsked::default();
    let (mut tags, mut legacy) = (String::new(), TagSearch::default());
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == bytes_tag(1) => {
                let (key, value) = map_entry(r.bytes()?)?;
                tags.push_str(&format!(" {key}={}", lgtm_core::go::quote(&value)));
            }
            tag if tag == varint_tag(2) => legacy.min_ms = r.uvarint()?,
            tag if tag == varint_tag(3) => legacy.max_ms = r.uvarint()?,
            tag if tag == varint_tag(4) => {
                let limit = count(r.uvarint()?);
                out.limit = (limit > 0).then_some(limit);
            }
            tag if tag == varint_tag(5) => out.times.start_s = time(r.uvarint()?),
            tag if tag == varint_tag(6) => out.times.end_s = time(r.uvarint()?),
            tag if tag == bytes_tag(8) => out.q = some(text(&mut r)?),
            tag if tag == varint_tag(9) => out.spans_per_set = Some(count(r.uvarint()?)),
            tag => skip(&mut r, tag)?,
        }
    }
    if out.q.is_none() {
        legacy.tags = some(tags);
        out.tags = Some(legacy);
    }
    Ok(out)
}

fn map_entry(bytes: &[u8]) -> Result<(String, String), DecodeError> {
    let mut r = Reader::new("tag of a search", bytes);
    let mut out = (String::new(), String::new());
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == bytes_tag(1) => out.0 = text(&mut r)?,
            tag if tag == bytes_tag(2) => out.1 = text(&mut r)?,
            tag => skip(&mut r, tag)?,
        }
    }
    Ok(out)
}

/// `SearchTagsRequest`
pub(super) fn names(bytes: &[u8]) -> Result<NamesAsked, DecodeError> {
    let mut r = Reader::new("tags request", bytes);
    let mut out = NamesAsked::default();
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == bytes_tag(1) => out.scope = text(&mut r)?,
            tag if tag == bytes_tag(2) => out.q = some(text(&mut r)?),
            tag if tag == varint_tag(3) => out.times.start_s = time(r.uvarint()?),
            tag if tag == varint_tag(4) => out.times.end_s = time(r.uvarint()?),
            tag if tag == varint_tag(5) => out.limit = count(r.uvarint()?),
            tag => skip(&mut r, tag)?,
        }
    }
    Ok(out)
}

/// `SearchTagValuesRequest`
pub(super) fn values(bytes: &[u8]) -> Result<ValuesAsked, DecodeError> {
    let mut r = Reader::new("tag values request", bytes);
    let mut out = ValuesAsked {
        times: SearchTimes::default(),
        ..ValuesAsked::default()
    };
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == bytes_tag(1) => out.tag = text(&mut r)?,
            tag if tag == bytes_tag(2) => out.q = some(text(&mut r)?),
            tag if tag == varint_tag(4) => out.times.start_s = time(r.uvarint()?),
            tag if tag == varint_tag(5) => out.times.end_s = time(r.uvarint()?),
            tag if tag == varint_tag(6) => out.limit = count(r.uvarint()?),
            tag => skip(&mut r, tag)?,
        }
    }
    Ok(out)
}

/// `QueryRangeRequest` and `QueryInstantRequest`, whose fields are some of the other's.
pub(super) fn metrics(kind: MetricsKind, bytes: &[u8]) -> Result<MetricsAsked, DecodeError> {
    let mut r = Reader::new("metrics request", bytes);
    let mut out = MetricsAsked {
        kind,
        q: String::new(),
        times: MetricsTimes::default(),
        exemplars: 0,
        max_series: 0,
    };
    let is_range = kind == MetricsKind::Range;
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == bytes_tag(1) => out.q = text(&mut r)?,
            tag if tag == varint_tag(2) => out.times.start_ns = time(r.uvarint()?),
            tag if tag == varint_tag(3) => out.times.end_ns = time(r.uvarint()?),
            tag if is_range && tag == varint_tag(4) => out.times.step_ns = time(r.uvarint()?),
            tag if is_range && tag == varint_tag(16) => out.exemplars = count(r.uvarint()?),
            tag if is_range && tag == varint_tag(17) => out.max_series = count(r.uvarint()?),
            tag => skip(&mut r, tag)?,
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use lgtm_core::codec::protobuf::{put_bytes_field, put_message, put_varint_field};

    use super::*;

    #[test]
    fn requests_are_read_and_zeros_are_nothing() {
        let mut bytes = Vec::new();
        put_bytes_field(&mut bytes, 8, b"{}");
        put_varint_field(&mut bytes, 4, 1);
        put_varint_field(&mut bytes, 5, 100);
        put_varint_field(&mut bytes, 6, 0);
        put_varint_field(&mut bytes, 9, 0);
        put_bytes_field(&mut bytes, 11, b"all");
        let asked = search(&bytes).unwrap();
        assert_eq!((asked.q.as_deref(), asked.limit), (Some("{}"), Some(1)));
        assert_eq!((asked.times.start_s, asked.times.end_s), (Some(100), None));
        assert_eq!((asked.spans_per_set, asked.tags), (Some(0), None));
        let mut bytes = Vec::new();
        put_message(&mut bytes, 1, |out| {
            put_bytes_field(out, 1, b"a");
            put_bytes_field(out, 2, b"x y");
        });
        let tags = search(&bytes).unwrap().tags.unwrap();
        assert_eq!(tags.tags.as_deref(), Some(r#" a="x y""#));
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(0u8.., 0..64)) {
            let _ = search(&bytes);
            let _ = names(&bytes);
            let _ = values(&bytes);
            let _ = metrics(MetricsKind::Range, &bytes);
            let _ = metrics(MetricsKind::Instant, &bytes);
        }
    }
}
