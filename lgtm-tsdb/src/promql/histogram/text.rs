//! A histogram as a label value (`count_values`).

use std::fmt::Write;

use lgtm_core::go::format_short;
use lgtm_core::model::FloatHistogram;

use super::buckets::{Bucket, negative, positive};

/// `{count:4, sum:5, [-2,-1):1, [-0.5,0.5]:1, (1,2]:2}`
pub(crate) fn describe(h: &FloatHistogram) -> String {
    let mut out = format!(
        "{{count:{}, sum:{}",
        format_short(h.count),
        format_short(h.sum)
    );
    let mut push = |open: char, b: Bucket, close: char| {
        if b.count != 0.0 {
            let (lower, upper, count) = (
                format_short(b.lower),
                format_short(b.upper),
                format_short(b.count),
            );
            let _ = write!(out, ", {open}{lower},{upper}{close}:{count}");
        }
    };
    negative(h).rev().for_each(|b| push('[', b, ')'));
    let zero = Bucket {
        lower: -h.zero_threshold,
        upper: h.zero_threshold,
        count: h.zero_count,
    };
    push('[', zero, ']');
    positive(h).for_each(|b| push('(', b, ']'));
    out.push('}');
    out
}
