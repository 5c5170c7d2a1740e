//! What is asked of a holder of data.
//!
//! ```text
//! request = { matchers = 1, repeated; min_ms = 2; max_ms = 3; hints = 4; labels = 5; shard = 6; blocks = 7; bounds = 8; limit = 9; name = 10; departed = 11, repeated }
//! matcher = { op = 1; name = 2; value = 3 }       op: 0 =, 1 !=, 2 =~, 3 !~
//! labels  = { name = 1, repeated }                left out when all are looked at
//! blocks  = the ids, 16 bytes each                left out when all are wanted
//! ```

use lgtm_core::codec::protobuf::{put_bytes_field, put_message, put_varint_field};
use lgtm_core::model::{TimeRange, TimestampMs};
use lgtm_core::rpc::messages::{matcher, put_matcher, put_text, walk};
use lgtm_core::{Error, Result};

use super::walk::put_range;
use crate::block::BlockId;
use crate::select::{FetchBounds, SelectHints, SelectRequest, SeriesShard};

/// Appends a request; `name` is the label whose values are asked for.
pub(super) fn put_select(out: &mut Vec<u8>, request: &SelectRequest, name: &str) {
    for m in &request.matchers {
        put_matcher(out, 1, m);
    }
    put_range(out, 2, request.range);
    put_message(out, 4, |out| put_hints(out, &request.hints));
    if let Some(labels) = &request.labels {
        put_message(out, 5, |out| {
            labels.iter().for_each(|l| put_text(out, 1, l))
        });
    }
    if let Some(shard) = request.shard {
        put_text(out, 6, &shard.to_string());
    }
    if let Some(blocks) = &request.blocks {
        put_bytes_field(out, 7, &block_bytes(blocks));
    }
    put_message(out, 8, |out| put_bounds(out, &request.bounds));
    put_varint_field(out, 9, request.limit as u64);
    put_text(out, 10, name);
    request.departed.iter().for_each(|d| put_text(out, 11, d));
}

/// A request, and the label whose values are asked for.
///
/// # Errors
/// `InvalidInput` for bytes that are no request, and for matchers that do not compile.
pub(super) fn select(message: &[u8]) -> Result<(SelectRequest, String)> {
    let mut out = SelectRequest::new(Vec::new(), TimeRange::new(0, 0))?;
    let (mut name, mut range) = (String::new(), [TimestampMs::EPOCH; 2]);
    walk("select", message, |number, field| {
        match number {
            1 => out.matchers.push(matcher(field)?),
            2 => range[0] = field.time()?,
            3 => range[1] = field.time()?,
            4 => out.hints = hints(field.bytes()?)?,
            5 => {
                let labels = out.labels.insert(Vec::new());
                walk("labels", field.bytes()?, |_, field| {
                    labels.push(field.string()?);
                    Ok(())
                })?;
            }
            6 => out.shard = Some(SeriesShard::parse(field.text()?)?),
            7 => out.blocks = Some(blocks(field.bytes()?)?),
            8 => out.bounds = bounds(field.bytes()?)?,
            9 => out.limit = usize::try_from(field.number()?).unwrap_or(usize::MAX),
            10 => name = field.string()?,
            11 => out.departed.push(field.string()?),
            _ => {}
        }
        Ok(())
    })?;
    out.range = TimeRange::new(range[0], range[1]);
    Ok((out, name))
}

fn put_hints(out: &mut Vec<u8>, hints: &SelectHints) {
    put_varint_field(out, 1, hints.step_ms as u64);
    put_varint_field(out, 2, hints.range_ms as u64);
    put_text(out, 3, &hints.function);
    hints.grouping.iter().for_each(|l| put_text(out, 4, l));
    put_varint_field(out, 5, u64::from(hints.without));
}

fn hints(message: &[u8]) -> Result<SelectHints> {
    let mut out = SelectHints::default();
    walk("hints", message, |number, field| {
        match number {
            1 => out.step_ms = field.number()? as i64,
            2 => out.range_ms = field.number()? as i64,
            3 => out.function = field.string()?,
            4 => out.grouping.push(field.string()?),
            5 => out.without = field.flag()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

fn put_bounds(out: &mut Vec<u8>, bounds: &FetchBounds) {
    put_varint_field(out, 1, bounds.max_series);
    put_varint_field(out, 2, bounds.max_chunks);
    put_varint_field(out, 3, bounds.max_chunk_bytes);
    put_varint_field(out, 4, bounds.max_list_bytes);
}

fn bounds(message: &[u8]) -> Result<FetchBounds> {
    let mut out = FetchBounds::default();
    walk("bounds", message, |number, field| {
        match number {
            1 => out.max_series = field.number()?,
            2 => out.max_chunks = field.number()?,
            3 => out.max_chunk_bytes = field.number()?,
            4 => out.max_list_bytes = field.number()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

pub(super) fn block_bytes(blocks: &[BlockId]) -> Vec<u8> {
    blocks.iter().flat_map(|b| b.to_bytes()).collect()
}

/// Ids that stand one behind the other.
///
/// # Errors
/// `InvalidInput` for a part of one.
pub(super) fn blocks(bytes: &[u8]) -> Result<Vec<BlockId>> {
    let (ids, rest) = bytes.as_chunks::<16>();
    if !rest.is_empty() {
        return Err(Error::InvalidInput("a block ID has 16 bytes".into()));
    }
    Ok(ids.iter().map(|id| BlockId::from_bytes(*id)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lgtm_core::model::{MatchOp, Matcher};
    use proptest::prelude::*;

    fn encoded(request: &SelectRequest, name: &str) -> Vec<u8> {
        let mut out = Vec::new();
        put_select(&mut out, request, name);
        out
    }

    #[test]
    fn a_request_arrives_as_it_was() {
        let matchers = vec![
            Matcher::equal("__name__", "up"),
            Matcher::new(MatchOp::NotEqual, "a", "").unwrap(),
            Matcher::regex("job", "a|b.*").unwrap(),
            Matcher::new(MatchOp::NotRegex, "ä", "x{2}").unwrap(),
        ];
        let plain = SelectRequest::new(matchers, TimeRange::new(-7, i64::MAX)).unwrap();
        let mut full = plain
            .clone()
            .hints(SelectHints {
                step_ms: 15_000,
                range_ms: -1,
                function: "rate".into(),
                grouping: vec!["job".into(), "pod".into()],
                without: true,
            })
            .looking_at(Some(vec!["job".into()]))
            .of_blocks(vec![BlockId::new(5, [7; 10]), BlockId::default()])
            .bounds(FetchBounds {
                max_series: 1,
                max_chunks: 2,
                max_chunk_bytes: u64::MAX,
                max_list_bytes: 4,
            })
            .limit(9)
            .after(vec!["ingester-1@7".into(), "ingester-2@9".into()]);
        full.shard = Some(SeriesShard::parse("3_of_16").unwrap());
        let nothing = plain.clone().looking_at(Some(Vec::new()));
        let nothing = nothing.of_blocks(Vec::new());
        for (request, name) in [(plain, ""), (full, "job"), (nothing, "x")] {
            let back = select(&encoded(&request, name)).unwrap();
            assert_eq!(format!("{:?}", back.0), format!("{request:?}"));
            assert_eq!(back.1, name);
        }
    }

    #[test]
    fn what_no_request_can_be_is_refused() {
        let mut bad_regex = Vec::new();
        put_message(&mut bad_regex, 1, |out| {
            put_varint_field(out, 1, 2);
            put_text(out, 3, "(");
        });
        let mut bad_op = Vec::new();
        put_message(&mut bad_op, 1, |out| put_varint_field(out, 1, 4));
        let mut bad_block = Vec::new();
        put_bytes_field(&mut bad_block, 7, &[1; 17]);
        let mut bad_type = Vec::new();
        put_varint_field(&mut bad_type, 4, 1);
        for bad in [bad_regex, bad_op, bad_block, bad_type] {
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
