//! Row groups that statistics or dictionaries rule out.

use super::condition::{Probe, need_of};
use super::decoded::Decoded;
use super::field_plan::{FieldPlan, Source};
use super::scan_block::ScanBlock;
use crate::schema::{Chunk, LeafIndex, Physical};
use crate::select::{CompareOp, Condition, Literal, Patterns, SpanFilter, SpanRequest, Test};

/// Whether a row group may have spans for a request, by the statistics of its columns; `false` is certain.
pub fn may_pass(block: &ScanBlock, group: usize, request: &SpanRequest) -> bool {
    let leaves = &block.file.positions;
    let bounds = |leaf: Option<LeafIndex>| int_bounds(block, group, leaf);
    if let Some(range) = &request.traces {
        let starts_late = bounds(leaves.start).is_some_and(|(min, _)| min as u64 > range.end_ns);
        let ends_early = bounds(leaves.end).is_some_and(|(_, max)| (max as u64) < range.start_ns);
        if starts_late || ends_early {
            return false;
        }
    }
    if let Some(range) = &request.starts {
        let is_outside = bounds(leaves.span.start)
            .is_some_and(|(min, max)| max as u64 <= range.after_ns || min as u64 > range.until_ns);
        if is_outside {
            return false;
        }
    }
    let by_statistics = |condition: &Condition| by_statistics(block, group, condition);
    holds(&request.filter, &by_statistics) && holds(&request.anchor, &by_statistics)
}

/// Whether a filter may be true where each test may be.
pub(super) fn holds(filter: &SpanFilter, test: &dyn Fn(&Condition) -> bool) -> bool {
    lgtm_core::exec::with_room(|| match filter {
        SpanFilter::Everything => true,
        SpanFilter::Nothing => false,
        SpanFilter::Test(condition) => test(condition),
        SpanFilter::All(all) => all.iter().all(|f| holds(f, test)),
        SpanFilter::Any(any) => any.iter().any(|f| holds(f, test)),
    })
}

/// Least and greatest value of a column of integers, none of which is negative.
fn int_bounds(block: &ScanBlock, group: usize, leaf: Option<LeafIndex>) -> Option<(i64, i64)> {
    let (leaf, chunk) = block.file.chunk(group, leaf?)?;
    let read = |bytes: &[u8]| match leaf.physical {
        Physical::Int64 => Some(i64::from_le_bytes(bytes.try_into().ok()?)),
        Physical::Int32 => Some(i32::from_le_bytes(bytes.try_into().ok()?).into()),
        _ => None,
    };
    let (min, max) = (read(chunk.min.as_deref()?)?, read(chunk.max.as_deref()?)?);
    // Columns without a sign order negative bits above.
    (min >= 0 && min <= max).then_some((min, max))
}

fn by_statistics(block: &ScanBlock, group: usize, condition: &Condition) -> bool {
    let Some(plan) = FieldPlan::of(block, &condition.field) else {
        return true;
    };
    let [Source::Flat(leaf)] = plan.sources.as_slice() else {
        return true;
    };
    if let Some(bounds) = int_bounds(block, group, Some(*leaf)) {
        return match &condition.test {
            Test::Compare(op, literal) => int_may_stand(*op, literal, bounds),
            Test::In(all) => all
                .iter()
                .any(|l| int_may_stand(CompareOp::Equal, l, bounds)),
            Test::Exists | Test::Matches(_) => true,
        };
    }
    let Some((file_leaf, chunk)) = block.file.chunk(group, *leaf) else {
        return true;
    };
    // Identifiers are compared as digits.
    let is_id = matches!(&condition.field, crate::select::Field::Intrinsic(i) if i.is_id());
    if file_leaf.physical != Physical::Bytes || is_id {
        return true;
    }
    match &condition.test {
        Test::Compare(CompareOp::Equal, Literal::Text(text)) => text_may_be(text, chunk),
        Test::In(all) => all
            .iter()
            .any(|l| matches!(l, Literal::Text(text) if text_may_be(text, chunk))),
        _ => true,
    }
}

/// Whether a value between bounds may stand so to a literal. Literals that are no numbers are left to others.
fn int_may_stand(op: CompareOp, literal: &Literal, (min, max): (i64, i64)) -> bool {
    let literal = match literal {
        Literal::Int(v) | Literal::Duration(v) => *v as f64,
        Literal::Float(v) => *v,
        Literal::Status(code) => *code as i64 as f64,
        Literal::Kind(kind) => *kind as i64 as f64,
        _ => return true,
    };
    // Rounding keeps the order, so that equal numbers may only seem so.
    let (min, max) = (min as f64, max as f64);
    match op {
        CompareOp::Equal => min <= literal && literal <= max,
        CompareOp::NotEqual => true,
        CompareOp::Less | CompareOp::LessOrEqual => min <= literal,
        CompareOp::Greater | CompareOp::GreaterOrEqual => max >= literal,
    }
}

/// Whether a text lies between a chunk's bounds, which may be cut.
fn text_may_be(text: &str, chunk: &Chunk) -> bool {
    let text = text.as_bytes();
    chunk.min.as_deref().is_none_or(|min| min <= text)
        && chunk
            .max
            .as_deref()
            .is_none_or(|max| text <= max || text.starts_with(max))
}

/// Leaves whose dictionaries may rule out the row group, each once.
pub(super) fn dictionaries(
    block: &ScanBlock,
    group: usize,
    request: &SpanRequest,
) -> Vec<LeafIndex> {
    let mut out = Vec::new();
    for filter in [&request.filter, &request.anchor] {
        add_dictionaries(block, filter, &mut out);
    }
    out.sort_unstable();
    out.dedup();
    out.retain(|leaf| {
        let chunk = block.file.chunk(group, *leaf);
        chunk.is_some_and(|(_, chunk)| chunk.is_all_dictionary)
    });
    out
}

fn add_dictionaries(block: &ScanBlock, filter: &SpanFilter, out: &mut Vec<LeafIndex>) {
    lgtm_core::exec::with_room(|| match filter {
        SpanFilter::Everything | SpanFilter::Nothing => {}
        SpanFilter::All(all) | SpanFilter::Any(all) => {
            all.iter().for_each(|f| add_dictionaries(block, f, out));
        }
        SpanFilter::Test(condition) => {
            let need = need_of(&condition.test);
            let Some(plan) = FieldPlan::of(block, &condition.field) else {
                return;
            };
            for source in &plan.sources {
                match source {
                    Source::Flat(leaf) | Source::Own(leaf) if need.texts => out.push(*leaf),
                    Source::List(list) => {
                        out.extend(list.key);
                        out.extend(list.text.filter(|_| need.texts));
                    }
                    _ => {}
                }
            }
        }
    });
}

/// Whether a filter may be true by the dictionaries that are there; no column is decoded yet.
pub(super) fn may_pass_dictionaries(
    block: &ScanBlock,
    group: usize,
    (request, patterns): (&SpanRequest, &Patterns),
    known: &Decoded,
) -> bool {
    let test = |condition: &Condition| {
        let probe = Probe::new(condition, patterns);
        let need = probe.need();
        let Some(plan) = FieldPlan::of(block, &condition.field) else {
            return true;
        };
        let is_only_text = need.texts && !need.numbers && !need.bools;
        let text_passes = |leaf: LeafIndex| match known.dictionary(leaf) {
            Some(dictionary) => dictionary.iter().any(|text| probe.passes_text(text)),
            None => {
                let leaf = block.file.chunk(group, leaf);
                leaf.is_none_or(|(leaf, _)| leaf.physical == Physical::Bytes)
            }
        };
        plan.sources.iter().any(|source| match source {
            Source::Flat(leaf) | Source::Own(leaf) => !is_only_text || text_passes(*leaf),
            Source::List(list) => {
                let has_key = list.key.and_then(|leaf| known.dictionary(leaf));
                let has_key = has_key.is_none_or(|keys| keys.iter().any(|key| key == plan.key));
                let may_be = !is_only_text
                    || plan.is_always_text
                    || list.array_json.is_some()
                    || list.text.is_none_or(text_passes);
                has_key && may_be
            }
            Source::ChildCount { .. } | Source::EventTime { .. } => true,
        })
    };
    holds(&request.filter, &test) && holds(&request.anchor, &test)
}
