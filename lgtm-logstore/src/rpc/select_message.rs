//! What is asked of a holder of logs.
//!
//! ```text
//! request  = { matcher = 1, repeated; min_ns = 2; max_ns = 3; order = 4; shard = 5; hints = 6; horizons = 7; bounds = 8; limit = 9; name = 10;
//!              may_repeat = 11; wish = 12; departed = 13, repeated }
//! order    : 0 stream by stream, 1 oldest first, 2 newest first
//! shard    = { index = 1; count = 2 }                     left out when all streams are wanted
//! hints    = { line_needle = 1, repeated; line_choices = 2, repeated; metadata_needle = 3, repeated; field_needle = 4, repeated;
//!              without_metadata = 5; entries = 6 }        choices = { text = 1, repeated }, needle = { name = 1; value = 2 }
//! horizons = { rule = 1, repeated; others_ns = 2 }        rule = { selector = 1; time_ns = 2 }
//! bounds   = { max_streams = 1; max_chunks = 2; max_chunk_bytes = 3 }
//! wish     = { edge_ns = 1, repeated; all_labels = 2; label = 3, repeated; except = 4, repeated: { min_ns = 1; max_ns = 2 } }
//! ```

use std::sync::Arc;

use lgtm_core::codec::protobuf::{put_bytes_field, put_message, put_varint_field};
use lgtm_core::model::{TimeRangeNs, TimestampNs};
use lgtm_core::rpc::messages::{Field, matcher, put_matcher, put_text, put_time_ns, walk};
use lgtm_core::{Error, Result};

use crate::limits::{Horizons, StreamSelector};
use crate::select::{CountWish, FetchBounds, SelectHints, SelectOrder, SelectRequest, StreamShard};

/// What a holder is asked, and how.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) request: SelectRequest,
    /// The label whose values are asked for.
    pub(super) name: String,
    /// What may come counted.
    pub(super) wish: Option<CountWish>,
}

/// Both ends, in two fields.
pub(super) fn put_range(out: &mut Vec<u8>, number: u64, range: TimeRangeNs) {
    put_time_ns(out, number, range.min_ns);
    put_time_ns(out, number + 1, range.max_ns);
}

pub(super) fn put_select(
    out: &mut Vec<u8>,
    request: &SelectRequest,
    name: &str,
    wish: Option<&CountWish>,
) {
    for m in &request.matchers {
        put_matcher(out, 1, m);
    }
    put_range(out, 2, request.range);
    let order = match request.order {
        SelectOrder::Streams => 0,
        SelectOrder::OldestFirst => 1,
        SelectOrder::NewestFirst => 2,
    };
    put_varint_field(out, 4, order);
    if let Some(shard) = request.shard {
        let (index, count) = shard.parts();
        put_message(out, 5, |out| {
            put_varint_field(out, 1, index);
            put_varint_field(out, 2, count);
        });
    }
    put_message(out, 6, |out| put_hints(out, &request.hints));
    if let Some(horizons) = &request.horizons {
        put_message(out, 7, |out| put_horizons(out, horizons));
    }
    put_message(out, 8, |out| {
        put_varint_field(out, 1, request.bounds.max_streams);
        put_varint_field(out, 2, request.bounds.max_chunks);
        put_varint_field(out, 3, request.bounds.max_chunk_bytes);
    });
    put_varint_field(out, 9, request.limit as u64);
    put_text(out, 10, name);
    put_varint_field(out, 11, u64::from(request.may_repeat));
    if let Some(wish) = wish {
        put_message(out, 12, |out| put_wish(out, wish));
    }
    request.departed.iter().for_each(|d| put_text(out, 13, d));
}

/// A request.
///
/// # Errors
/// `InvalidInput` for bytes that are none, and for matchers that do not compile.
pub(super) fn select(message: &[u8]) -> Result<Asked> {
    let mut asked = Asked {
        request: SelectRequest::new(Vec::new(), TimeRangeNs::new(0, 0)),
        name: String::new(),
        wish: None,
    };
    let out = &mut asked.request;
    walk("select", message, |number, field| {
        match number {
            1 => out.matchers.push(matcher(field)?),
            2 => out.range.min_ns = field.time_ns()?,
            3 => out.range.max_ns = field.time_ns()?,
            4 => {
                out.order = match field.number()? {
                    0 => SelectOrder::Streams,
                    1 => SelectOrder::OldestFirst,
                    2 => SelectOrder::NewestFirst,
                    n => return Err(Error::InvalidInput(format!("unknown order {n}"))),
                }
            }
            5 => out.shard = Some(shard(field.bytes()?)?),
            6 => out.hints = hints(field.bytes()?)?,
            7 => out.horizons = Some(Arc::new(horizons(field.bytes()?)?)),
            8 => out.bounds = bounds(field.bytes()?)?,
            9 => out.limit = usize::try_from(field.number()?).unwrap_or(usize::MAX),
            10 => asked.name = field.string()?,
            11 => out.may_repeat = field.flag()?,
            12 => asked.wish = Some(wish(field.bytes()?)?),
            13 => out.departed.push(field.string()?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(asked)
}

fn shard(message: &[u8]) -> Result<StreamShard> {
    let mut parts = [0u32; 2];
    walk("shard", message, |number, field| {
        if let Some(part) = parts.get_mut(number.wrapping_sub(1) as usize) {
            let n = field.number()?;
            *part = u32::try_from(n)
                .map_err(|_| Error::InvalidInput(format!("shard {n} does not fit 32 bits")))?;
        }
        Ok(())
    })?;
    StreamShard::new(parts[0], parts[1])
}

fn put_needle(out: &mut Vec<u8>, number: u64, needle: &(String, String)) {
    put_message(out, number, |out| {
        put_text(out, 1, &needle.0);
        put_text(out, 2, &needle.1);
    });
}

fn needle(field: Field<'_>) -> Result<(String, String)> {
    let mut out = (String::new(), String::new());
    walk("needle", field.bytes()?, |number, field| {
        match number {
            1 => out.0 = field.string()?,
            2 => out.1 = field.string()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

fn put_hints(out: &mut Vec<u8>, hints: &SelectHints) {
    for needle in &hints.line_needles {
        put_bytes_field(out, 1, needle);
    }
    for choices in &hints.line_choices {
        put_message(out, 2, |out| {
            choices.iter().for_each(|c| put_bytes_field(out, 1, c));
        });
    }
    for needle in &hints.metadata_needles {
        put_needle(out, 3, needle);
    }
    for needle in &hints.field_needles {
        put_needle(out, 4, needle);
    }
    put_varint_field(out, 5, u64::from(hints.without_metadata));
    put_varint_field(out, 6, hints.entries as u64);
}

fn hints(message: &[u8]) -> Result<SelectHints> {
    let mut out = SelectHints::default();
    walk("hints", message, |number, field| {
        match number {
            1 => out.line_needles.push(field.bytes()?.to_vec()),
            2 => {
                let mut choices = Vec::new();
                walk("choices", field.bytes()?, |_, field| {
                    choices.push(field.bytes()?.to_vec());
                    Ok(())
                })?;
                out.line_choices.push(choices);
            }
            3 => out.metadata_needles.push(needle(field)?),
            4 => out.field_needles.push(needle(field)?),
            5 => out.without_metadata = field.flag()?,
            6 => out.entries = usize::try_from(field.number()?).unwrap_or(usize::MAX),
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

fn put_horizons(out: &mut Vec<u8>, horizons: &Horizons) {
    for (selector, time_ns) in horizons.rules() {
        put_message(out, 1, |out| {
            put_text(out, 1, selector.text());
            put_time_ns(out, 2, *time_ns);
        });
    }
    if let Some(others) = horizons.others() {
        put_time_ns(out, 2, others);
    }
}

fn horizons(message: &[u8]) -> Result<Horizons> {
    let (mut rules, mut others) = (Vec::new(), None);
    walk("horizons", message, |number, field| {
        match number {
            1 => {
                let (mut selector, mut time_ns) = (StreamSelector::default(), TimestampNs::MIN);
                walk("horizon", field.bytes()?, |number, field| {
                    match number {
                        1 => selector = StreamSelector::new(field.text()?)?,
                        2 => time_ns = field.time_ns()?,
                        _ => {}
                    }
                    Ok(())
                })?;
                rules.push((selector, time_ns));
            }
            2 => others = Some(field.time_ns()?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(Horizons::from_rules(rules, others))
}

fn bounds(message: &[u8]) -> Result<FetchBounds> {
    let mut out = FetchBounds::default();
    walk("bounds", message, |number, field| {
        match number {
            1 => out.max_streams = field.number()?,
            2 => out.max_chunks = field.number()?,
            3 => out.max_chunk_bytes = field.number()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

fn put_wish(out: &mut Vec<u8>, wish: &CountWish) {
    wish.edges.iter().for_each(|t| put_time_ns(out, 1, *t));
    match &wish.labels {
        None => put_varint_field(out, 2, 1),
        Some(labels) => labels.iter().for_each(|l| put_text(out, 3, l)),
    }
    for range in &wish.except {
        put_message(out, 4, |out| put_range(out, 1, *range));
    }
}

fn wish(message: &[u8]) -> Result<CountWish> {
    let (mut out, mut all, mut labels) = (CountWish::default(), false, Vec::new());
    walk("wish", message, |number, field| {
        match number {
            1 => out.edges.push(field.time_ns()?),
            2 => all = field.flag()?,
            3 => labels.push(field.string()?),
            4 => {
                let mut range = TimeRangeNs::new(0, 0);
                walk("range", field.bytes()?, |number, field| {
                    match number {
                        1 => range.min_ns = field.time_ns()?,
                        2 => range.max_ns = field.time_ns()?,
                        _ => {}
                    }
                    Ok(())
                })?;
                out.except.push(range);
            }
            _ => {}
        }
        Ok(())
    })?;
    out.labels = (!all).then_some(labels);
    if !out.edges.is_sorted() {
        return Err(Error::InvalidInput("edges of counts do not ascend".into()));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lgtm_core::model::{MatchOp, Matcher, TimestampMs};
    use proptest::prelude::*;

    use crate::limits::{Limits, StreamRetention};

    #[test]
    fn a_request_arrives_as_it_was() {
        let matchers = vec![
            Matcher::equal("app", "x"),
            Matcher::new(MatchOp::NotEqual, "a", "").unwrap(),
            Matcher::regex("job", "a|b.*").unwrap(),
        ];
        let plain = SelectRequest::new(matchers, TimeRangeNs::new(-7, i64::MAX));
        let limits = Limits {
            retention_period: std::time::Duration::from_secs(86_400),
            retention_stream: vec![StreamRetention {
                selector: StreamSelector::new(r#"{app="x"}"#).unwrap(),
                priority: 1,
                period: std::time::Duration::from_secs(7200),
            }],
            ..Limits::default()
        };
        let mut full = plain
            .clone()
            .order(SelectOrder::NewestFirst)
            .shard(Some(StreamShard::new(3, 16).unwrap()))
            .hints(SelectHints {
                line_needles: vec![b"err\xff".to_vec(), Vec::new()],
                line_choices: vec![vec![b"a".to_vec(), b"b".to_vec()], Vec::new()],
                metadata_needles: vec![("trace".into(), "1".into())],
                field_needles: vec![("user".into(), "ä".into())],
                without_metadata: true,
                entries: 100,
            })
            .bounds(FetchBounds {
                max_streams: 1,
                max_chunks: 2,
                max_chunk_bytes: u64::MAX,
            })
            .limit(9);
        let now_ms = TimestampMs::new(1_700_000_000_000);
        full.horizons = Some(Arc::new(Horizons::of(&limits, now_ms)));
        full.may_repeat = true;
        full.departed = vec!["a@1".into(), "b@2".into()];
        let wish = CountWish {
            edges: vec![TimestampNs::new(-1), TimestampNs::new(5)],
            labels: Some(vec!["a".into(), String::new()]),
            except: vec![TimeRangeNs::new(1, 2)],
        };
        let no_labels = CountWish {
            labels: Some(Vec::new()),
            ..CountWish::default()
        };
        for (request, name, wish) in [
            (&plain, "", None),
            (&full, "job", Some(wish)),
            (&plain, "x", Some(CountWish::default())),
            (&plain, "", Some(no_labels)),
        ] {
            let mut out = Vec::new();
            put_select(&mut out, request, name, wish.as_ref());
            let back = select(&out).unwrap();
            assert_eq!(format!("{:?}", back.request), format!("{request:?}"));
            assert_eq!((back.name.as_str(), back.wish), (name, wish));
        }
    }

    #[test]
    fn what_no_request_can_be_is_refused() {
        let mut bad_order = Vec::new();
        put_varint_field(&mut bad_order, 4, 3);
        let mut bad_shard = Vec::new();
        put_message(&mut bad_shard, 5, |out| put_varint_field(out, 1, 1));
        let mut bad_edges = Vec::new();
        put_message(&mut bad_edges, 12, |out| {
            put_varint_field(out, 1, 2);
            put_varint_field(out, 1, 1);
        });
        for bad in [bad_order, bad_shard, bad_edges] {
            let error = select(&bad).unwrap_err();
            assert_eq!(error.kind(), lgtm_core::ErrorKind::InvalidInput);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = select(&bytes);
        }
    }
}
