//! The chunks that several blocks have of one series, as one run without overlaps.

use lgtm_core::DecodeError;
use lgtm_core::model::TimeRange;

use crate::chunk::{Chunk, encode_started_run};
use crate::select::started_samples;

/// A chunk, and the number of the block it comes from.
#[derive(Debug, Clone)]
pub(super) struct InputChunk {
    pub(super) input: usize,
    pub(super) chunk: Chunk,
}

/// What was done with chunks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ChunkCounts {
    /// Taken as they were.
    pub(super) passed: u64,
    /// Equal to another.
    pub(super) dropped: u64,
    /// Decoded and merged with others.
    pub(super) decoded: u64,
}

/// Empties `chunks`, those of earlier blocks first, into `out`: in the order of time, without overlaps, each time once. Only what overlaps is
/// decoded; of two samples of one time the one stays that a query over the blocks would give.
///
/// # Errors
/// A chunk that does not follow its format, of those that are looked into, with the number of its block.
pub(super) fn merge_chunks(
    chunks: &mut Vec<InputChunk>,
    out: &mut Vec<Chunk>,
    counts: &mut ChunkCounts,
) -> Result<(), (usize, DecodeError)> {
    let key = |c: &InputChunk| (c.chunk.min_ms, c.chunk.max_ms);
    if !chunks.is_sorted_by_key(key) {
        chunks.sort_by_key(key);
    }
    let before = chunks.len();
    chunks.dedup_by(|a, b| a.chunk == b.chunk);
    counts.dropped += (before - chunks.len()) as u64;
    // The block of the chunk before, if that was not encoded anew.
    let mut last_input = chunks.first().map(|c| c.input);
    let mut rest = chunks.drain(..).peekable();
    while let Some(first) = rest.next() {
        let mut end_ms = first.chunk.max_ms;
        let overlaps = |next: &InputChunk, end_ms| next.chunk.min_ms <= end_ms;
        if !rest.peek().is_some_and(|next| overlaps(next, end_ms)) {
            counts.passed += 1;
            out.push(if last_input == Some(first.input) {
                first.chunk
            } else {
                // It says of a reset what was so behind another chunk.
                first.chunk.with_reset_unknown()
            });
            last_input = Some(first.input);
            continue;
        }
        let (mut inputs, mut run) = (vec![first.input], vec![first.chunk]);
        while let Some(next) = rest.next_if(|next| overlaps(next, end_ms)) {
            end_ms = end_ms.max(next.chunk.max_ms);
            inputs.push(next.input);
            run.push(next.chunk);
        }
        counts.decoded += run.len() as u64;
        let samples = started_samples(&run, TimeRange::ALL);
        let samples = samples.map_err(|e| (inputs[broken_chunk(&run)], e))?;
        out.extend(encode_started_run(samples));
        last_input = None;
    }
    Ok(())
}

/// Which of `chunks` does not decode.
fn broken_chunk(chunks: &[Chunk]) -> usize {
    let is_broken = |c: &Chunk| started_samples(std::slice::from_ref(c), TimeRange::ALL).is_err();
    chunks.iter().position(is_broken).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::{SampleValue, encode_run};
    use crate::select::samples;
    use lgtm_core::model::Histogram;
    use proptest::prelude::*;

    fn merged(chunks: &[(usize, Chunk)]) -> (Vec<Chunk>, ChunkCounts) {
        let input = |(input, chunk): &(usize, Chunk)| InputChunk {
            input: *input,
            chunk: chunk.clone(),
        };
        let mut chunks = chunks.iter().map(input).collect();
        let (mut out, mut counts) = (Vec::new(), ChunkCounts::default());
        merge_chunks(&mut chunks, &mut out, &mut counts).unwrap();
        assert!(chunks.is_empty());
        (out, counts)
    }

    fn floats(times: &[i64], value: f64) -> Chunk {
        let run = times.iter().map(|&t| (t, SampleValue::Float(value)));
        encode_run(run).remove(0)
    }

    #[test]
    fn only_what_overlaps_is_decoded() {
        let [a, b, c, d] = [
            floats(&[1, 2], 1.0),
            floats(&[5, 9], 2.0),
            floats(&[9, 10], 3.0),
            floats(&[11], 4.0),
        ];
        let all = [
            (1, a.clone()),
            (0, c),
            (1, b),
            (0, d.clone()),
            (2, a.clone()),
        ];
        let (out, counts) = merged(&all);
        let expected = ChunkCounts {
            passed: 2,
            dropped: 1,
            decoded: 2,
        };
        assert_eq!(counts, expected);
        assert_eq!((out.len(), &out[0], &out[2]), (3, &a, &d));
        let found = samples(&out[1..2], TimeRange::ALL).unwrap();
        let value = |v: f64| SampleValue::Float(v);
        let want = [(5, value(2.0)), (9, value(3.0)), (10, value(3.0))];
        assert_eq!(found, want.map(|(t, v)| (t.into(), v)));
    }

    #[test]
    fn a_chunk_behind_one_of_another_block_says_nothing_of_a_reset() {
        let histogram = |count| Histogram {
            schema: 1,
            count,
            ..Histogram::default()
        };
        let run = |from: i64| {
            let all = (from..from + 130)
                .map(|t| (t, SampleValue::Histogram(Box::new(histogram(t as u64)))));
            encode_run(all)
        };
        let (first, second) = (run(0), run(1000));
        assert_eq!((first.len(), second.len()), (2, 2));
        let header = |c: &Chunk| c.data[2] >> 6;
        let all = [
            (0, first[0].clone()),
            (0, first[1].clone()),
            (1, second[1].clone()),
        ];
        let (out, _) = merged(&all);
        assert_eq!(out[..2], first[..]);
        assert_eq!(header(&out[2]), 0);
        assert_eq!(out[2], second[1].clone().with_reset_unknown());
    }

    proptest! {
        #[test]
        fn a_query_over_the_merged_chunks_gives_what_one_over_all_gives(
            runs in proptest::collection::vec(
                (0usize..3, proptest::collection::btree_set(0i64..60, 1..12), 0u8..3), 0..8),
        ) {
            let mut all: Vec<(usize, Chunk)> = runs
                .into_iter()
                .map(|(input, times, v)| {
                    let times: Vec<i64> = times.into_iter().collect();
                    (input, floats(&times, f64::from(v)))
                })
                .collect();
            all.sort_by_key(|(input, _)| *input);
            let chunks: Vec<Chunk> = all.iter().map(|(_, c)| c.clone()).collect();
            let want = samples(&chunks, TimeRange::ALL)?;
            let (out, _) = merged(&all);
            prop_assert!(out.windows(2).all(|w| w[0].max_ms < w[1].min_ms));
            prop_assert_eq!(samples(&out, TimeRange::ALL)?, want);
        }
    }
}
