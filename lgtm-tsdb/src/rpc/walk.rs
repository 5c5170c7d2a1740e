//! What several messages have: label sets in the spelling of remote write, ranges, exemplars.

use lgtm_core::Result;
use lgtm_core::codec::protobuf::put_message;
use lgtm_core::model::{Exemplar, Labels, TimeRange, TimestampMs};
use lgtm_core::rpc::messages::{Field, broken, put_double, put_time, walk};

use crate::wire::{RawLabels, RawLabelsBuilder};

pub(super) fn labels(field: Field<'_>) -> Result<Labels> {
    let mut pairs = Vec::new();
    for pair in RawLabels::new(field.bytes()?).iter() {
        pairs.push(pair.map_err(broken)?);
    }
    Labels::from_sorted(pairs)
}

/// A label set in the spelling of remote write.
pub(super) fn put_labels(out: &mut Vec<u8>, number: u64, labels: &Labels) {
    put_message(out, number, |out| {
        RawLabelsBuilder::encode(labels.iter(), out)
    });
}

/// Both ends, in two fields.
pub(super) fn put_range(out: &mut Vec<u8>, number: u64, range: TimeRange) {
    put_time(out, number, range.min_ms);
    put_time(out, number + 1, range.max_ms);
}

/// `{ labels = 1, value = 2, time = 3 }`.
pub(super) fn put_exemplar(out: &mut Vec<u8>, number: u64, e: &Exemplar) {
    put_message(out, number, |out| {
        put_labels(out, 1, &e.labels);
        put_double(out, 2, e.value);
        put_time(out, 3, e.t_ms);
    });
}

pub(super) fn exemplar(message: &[u8]) -> Result<Exemplar> {
    let mut out = Exemplar {
        labels: Labels::empty(),
        value: 0.0,
        t_ms: TimestampMs::EPOCH,
    };
    walk("exemplar", message, |number, field| {
        match number {
            1 => out.labels = labels(field)?,
            2 => out.value = field.double()?,
            3 => out.t_ms = field.time()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}
