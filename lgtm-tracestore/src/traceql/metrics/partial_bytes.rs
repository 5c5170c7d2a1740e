//! A part of a metrics query as bytes, for caches and for those who ask from elsewhere.
//!
//! Integers are varints, floats their bits, texts have their length before them: the grid (left edge, step, intervals), the number of functions, and
//! for each its series (labels, bucket, kind of cells, cells) and exemplars.

use std::collections::BTreeMap;

use lgtm_core::DecodeError;
use lgtm_core::codec::{self, Reader};

use super::super::value::AnswerValue;
use super::cells::{Cells, SumCell};
use super::grid::{IntervalGrid, MAX_INTERVALS};
use super::partial::{Bucket, ExemplarSpan, LegPartial, MetricsPartial, SeriesKey, SeriesLabels};

/// Lists within lists that a value may have. A query's answer has one.
const MAX_DEPTH: usize = 8;

impl MetricsPartial {
    /// Appends it as bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        codec::put_uvarint(out, self.grid.after_ns);
        codec::put_uvarint(out, self.grid.step_ns);
        codec::put_uvarint(out, self.grid.len as u64);
        codec::put_uvarint(out, self.legs.len() as u64);
        for leg in &self.legs {
            codec::put_uvarint(out, leg.series.len() as u64);
            for (key, cells) in &leg.series {
                put_key(out, key);
                put_cells(out, cells);
            }
            codec::put_uvarint(out, leg.exemplars.len() as u64);
            for exemplar in &leg.exemplars {
                put_key(out, &exemplar.key);
                codec::put_uvarint(out, exemplar.start_ns);
                // Not a number stands for none: no field has that value.
                put_f64(out, exemplar.value.unwrap_or(f64::NAN));
                put_labels(out, &exemplar.labels);
                codec::put_uvarint(out, exemplar.rank);
            }
        }
    }

    /// Reads what [`MetricsPartial::encode`] wrote. Memory is in proportion to the bytes.
    ///
    /// # Errors
    /// For anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("part of a metrics query", bytes);
        let grid = IntervalGrid {
            after_ns: r.uvarint()?,
            step_ns: r.uvarint()?,
            // Not the length of anything that follows: a part without series has no cells.
            len: usize::try_from(r.uvarint()?).unwrap_or(usize::MAX),
        };
        let width = grid.step_ns.checked_mul(grid.len as u64);
        let end_ns = width.and_then(|width| grid.after_ns.checked_add(width));
        if grid.step_ns == 0 || grid.len as u64 > MAX_INTERVALS || end_ns.is_none() {
            return Err(r.error("intervals that cannot be"));
        }
        let legs = r.length()?;
        let mut out = Vec::with_capacity(legs.min(r.remaining()).min(16));
        for _ in 0..legs {
            out.push(read_leg(&mut r, &grid)?);
        }
        if !r.is_empty() {
            return Err(r.error("bytes are left over"));
        }
        Ok(Self { grid, legs: out })
    }
}

fn put_f64(out: &mut Vec<u8>, v: f64) {
    out.extend_from_slice(&v.to_bits().to_le_bytes());
}

fn put_key(out: &mut Vec<u8>, key: &SeriesKey) {
    put_labels(out, &key.labels);
    match key.bucket {
        None => out.push(0),
        Some(bucket) => out.extend_from_slice(&[1 + u8::from(bucket.is_duration), bucket.exponent]),
    }
}

fn put_labels(out: &mut Vec<u8>, labels: &SeriesLabels) {
    codec::put_uvarint(out, labels.len() as u64);
    for (name, value) in labels {
        codec::put_bytes(out, name.as_bytes());
        put_value(out, value);
    }
}

fn put_value(out: &mut Vec<u8>, value: &AnswerValue) {
    match value {
        AnswerValue::Text(text) => {
            out.push(0);
            codec::put_bytes(out, text.as_bytes());
        }
        AnswerValue::Int(n) => {
            out.push(1);
            codec::put_svarint(out, *n);
        }
        AnswerValue::Float(v) => {
            out.push(2);
            put_f64(out, *v);
        }
        AnswerValue::Bool(is) => out.push(3 + u8::from(*is)),
        AnswerValue::Array(all) => {
            out.push(5);
            codec::put_uvarint(out, all.len() as u64);
            all.iter().for_each(|value| put_value(out, value));
        }
    }
}

fn put_cells(out: &mut Vec<u8>, cells: &Cells) {
    match cells {
        Cells::Counts(all) => {
            out.push(0);
            all.iter().for_each(|n| codec::put_uvarint(out, *n));
        }
        Cells::Sums(all) => {
            out.push(1);
            for sum in all {
                codec::put_uvarint(out, sum.count);
                // An interval without values is one byte.
                if sum.count > 0 {
                    out.extend_from_slice(&sum.ints.to_le_bytes());
                    out.extend_from_slice(&sum.nanos.to_le_bytes());
                    put_f64(out, sum.floats);
                    put_f64(out, sum.lost);
                }
            }
        }
        Cells::Least(all) => {
            out.push(2);
            all.iter().for_each(|v| put_f64(out, *v));
        }
        Cells::Greatest(all) => {
            out.push(3);
            all.iter().for_each(|v| put_f64(out, *v));
        }
    }
}

fn read_leg(r: &mut Reader<'_>, grid: &IntervalGrid) -> Result<LegPartial, DecodeError> {
    let mut series = BTreeMap::new();
    for _ in 0..r.length()? {
        let key = read_key(r)?;
        series.insert(key, read_cells(r, grid.len)?);
    }
    let count = r.length()?;
    let mut exemplars = Vec::with_capacity(count.min(r.remaining()).min(1024));
    for _ in 0..count {
        exemplars.push(ExemplarSpan {
            key: read_key(r)?,
            start_ns: r.uvarint()?,
            value: Some(read_f64(r)?).filter(|v| !v.is_nan()),
            labels: read_labels(r)?,
            rank: r.uvarint()?,
        });
    }
    Ok(LegPartial { series, exemplars })
}

fn read_f64(r: &mut Reader<'_>) -> Result<f64, DecodeError> {
    Ok(f64::from_bits(r.u64_le()?))
}

fn read_i128(r: &mut Reader<'_>) -> Result<i128, DecodeError> {
    let (low, high) = (r.u64_le()?, r.u64_le()?);
    Ok((u128::from(high) << 64 | u128::from(low)) as i128)
}

fn read_key(r: &mut Reader<'_>) -> Result<SeriesKey, DecodeError> {
    let labels = read_labels(r)?;
    let bucket = match r.u8()? {
        0 => None,
        kind @ (1 | 2) => Some(Bucket {
            exponent: r.u8()?,
            is_duration: kind == 2,
        }),
        kind => return Err(r.error(format!("kind {kind} of a bucket"))),
    };
    Ok(SeriesKey { labels, bucket })
}

fn read_labels(r: &mut Reader<'_>) -> Result<SeriesLabels, DecodeError> {
    let count = r.length()?;
    let mut labels = Vec::with_capacity(count.min(r.remaining()).min(64));
    for _ in 0..count {
        labels.push((r.str()?.to_owned(), read_value(r, MAX_DEPTH)?));
    }
    Ok(labels)
}

fn read_value(r: &mut Reader<'_>, depth: usize) -> Result<AnswerValue, DecodeError> {
    Ok(match r.u8()? {
        0 => AnswerValue::Text(r.str()?.to_owned()),
        1 => AnswerValue::Int(r.svarint()?),
        2 => AnswerValue::Float(read_f64(r)?),
        is @ (3 | 4) => AnswerValue::Bool(is == 4),
        5 if depth > 0 => {
            let count = r.length()?;
            let mut all = Vec::with_capacity(count.min(r.remaining()).min(64));
            for _ in 0..count {
                all.push(read_value(r, depth - 1)?);
            }
            AnswerValue::Array(all)
        }
        kind => return Err(r.error(format!("kind {kind} of a value"))),
    })
}

fn read_cells(r: &mut Reader<'_>, len: usize) -> Result<Cells, DecodeError> {
    /// Each cell as `read` gives it.
    fn all<T>(
        r: &mut Reader<'_>,
        len: usize,
        read: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        // A cell is a byte at least.
        let mut out = Vec::with_capacity(len.min(r.remaining()));
        for _ in 0..len {
            out.push(read(r)?);
        }
        Ok(out)
    }
    let sum = |r: &mut Reader<'_>| {
        let count = r.uvarint()?;
        if count == 0 {
            return Ok(SumCell::default());
        }
        Ok(SumCell {
            count,
            ints: read_i128(r)?,
            nanos: read_i128(r)?,
            floats: read_f64(r)?,
            lost: read_f64(r)?,
        })
    };
    Ok(match r.u8()? {
        0 => Cells::Counts(all(r, len, |r| r.uvarint())?),
        1 => Cells::Sums(all(r, len, sum)?),
        2 => Cells::Least(all(r, len, read_f64)?),
        3 => Cells::Greatest(all(r, len, read_f64)?),
        kind => return Err(r.error(format!("kind {kind} of cells"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = AnswerValue> {
        let one = prop_oneof![
            ".{0,9}".prop_map(AnswerValue::Text),
            any::<i64>().prop_map(AnswerValue::Int),
            any::<f64>().prop_map(AnswerValue::Float),
            any::<bool>().prop_map(AnswerValue::Bool),
        ];
        one.prop_recursive(2, 6, 3, |inner| {
            proptest::collection::vec(inner, 0..3).prop_map(AnswerValue::Array)
        })
    }

    fn key() -> impl Strategy<Value = SeriesKey> {
        let bucket = (any::<u8>(), any::<bool>()).prop_map(|(exponent, is_duration)| Bucket {
            exponent,
            is_duration,
        });
        let labels = proptest::collection::vec((".{0,5}", value()), 0..3);
        (labels, proptest::option::of(bucket))
            .prop_map(|(labels, bucket)| SeriesKey { labels, bucket })
    }

    fn cells(len: usize) -> impl Strategy<Value = Cells> {
        let sum = (0u64..3, any::<i64>(), any::<i64>(), -1e9..1e9f64);
        let sum = sum.prop_map(|(count, ints, nanos, floats)| SumCell {
            count,
            ints: if count == 0 { 0 } else { ints.into() },
            nanos: if count == 0 { 0 } else { nanos.into() },
            floats: if count == 0 { 0.0 } else { floats },
            lost: 0.0,
        });
        let number = -1e9..1e9f64;
        prop_oneof![
            proptest::collection::vec(0u64..9, len).prop_map(Cells::Counts),
            proptest::collection::vec(sum, len).prop_map(Cells::Sums),
            proptest::collection::vec(number.clone(), len).prop_map(Cells::Least),
            proptest::collection::vec(number, len).prop_map(Cells::Greatest),
        ]
    }

    fn partial() -> impl Strategy<Value = MetricsPartial> {
        (0u64..100, 1u64..10, 1usize..6).prop_flat_map(|(first, step_ns, len)| {
            let grid = IntervalGrid {
                after_ns: first * step_ns,
                step_ns,
                len,
            };
            let exemplar = (
                key(),
                any::<u64>(),
                proptest::option::of(-9.0..9.0),
                any::<u64>(),
            );
            let exemplar = exemplar.prop_map(|(key, start_ns, value, rank)| ExemplarSpan {
                labels: key.labels.clone(),
                key,
                start_ns,
                value,
                rank,
            });
            let series = proptest::collection::btree_map(key(), cells(len), 0..4);
            let exemplars = proptest::collection::vec(exemplar, 0..3);
            let leg = (series, exemplars)
                .prop_map(|(series, exemplars)| LegPartial { series, exemplars });
            proptest::collection::vec(leg, 0..3).prop_map(move |legs| MetricsPartial { grid, legs })
        })
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_again(partial in partial()) {
            let mut bytes = Vec::new();
            partial.encode(&mut bytes);
            prop_assert_eq!(MetricsPartial::decode(&bytes).unwrap(), partial);
        }

        #[test]
        fn any_bytes_give_an_error_or_a_part(mut bytes: Vec<u8>, partial in partial(), at: usize, flip: u8) {
            let _ = MetricsPartial::decode(&bytes);
            bytes.clear();
            partial.encode(&mut bytes);
            let at = at % bytes.len();
            bytes[at] ^= flip;
            let _ = MetricsPartial::decode(&bytes);
            bytes.truncate(at);
            prop_assert!(MetricsPartial::decode(&bytes).is_err());
        }

        /// Cut at any interval and joined again nothing is lost.
        #[test]
        fn parts_make_the_whole(partial in partial(), cut: usize) {
            let grid = partial.grid;
            let cut = cut % (grid.len + 1);
            let after_ns = grid.after_ns + cut as u64 * grid.step_ns;
            let mut first = partial.part(IntervalGrid { len: cut, ..grid });
            let second = partial.part(IntervalGrid { after_ns, len: grid.len - cut, ..grid });
            first.merge(second).unwrap();
            prop_assert_eq!(first.grid, grid);
            for (leg, whole) in first.legs.iter().zip(&partial.legs) {
                let all: BTreeMap<_, _> = whole.series.iter().filter(|(_, cells)| !cells.is_empty()).collect();
                prop_assert_eq!(leg.series.iter().collect::<BTreeMap<_, _>>(), all);
            }
        }
    }
}
