//! Bytes of no meaning, and good bytes with damage, put to every decoder that reads what others wrote: an error, never a panic, and
//! never memory by a length that was only claimed.

use lgtm_core::model::{BucketSpan, FloatHistogram, Histogram, TimestampMs};
use lgtm_tsdb::block::{
    BlockMeta, BucketIndex, DeletionMark, NoCompactMark, TenantDeletionMark, Tombstones,
};
use lgtm_tsdb::chunk::{
    Encoding, FloatHistogramAppender, HistogramAppender, XorAppender, iter, sample_count,
};
use proptest::prelude::*;

const ENCODINGS: [Encoding; 6] = [
    Encoding::Xor,
    Encoding::Histogram,
    Encoding::FloatHistogram,
    Encoding::Xor2,
    Encoding::HistogramSt,
    Encoding::FloatHistogramSt,
];

/// Reads a chunk to its end or to its first error; a sample count is two bytes, so that no more can come out.
fn read(encoding: Encoding, data: &[u8]) {
    let _ = sample_count(encoding, data);
    if let Ok(samples) = iter(encoding, data) {
        let good = samples.take_while(Result::is_ok).count();
        assert!(good <= usize::from(u16::MAX));
    }
}

fn good_chunks() -> Vec<(Encoding, Vec<u8>)> {
    let (mut xor, mut int) = (XorAppender::new(), HistogramAppender::new());
    let mut float = FloatHistogramAppender::new();
    for i in 0..30i64 {
        xor.append(TimestampMs::new(i * 15_000 + i % 3), (i * i) as f64 * 0.25);
        let h = Histogram {
            schema: 1,
            count: 3 * (i as u64 + 1),
            sum: i as f64,
            positive_spans: vec![BucketSpan {
                offset: -1,
                length: 2,
            }],
            positive_deltas: vec![i + 1, i + 1],
            ..Histogram::default()
        };
        let f: FloatHistogram = h.to_float();
        int.append(TimestampMs::new(i * 15_000), &h);
        float.append(TimestampMs::new(i * 15_000), &f);
    }
    vec![
        (Encoding::Xor, xor.snapshot().data.to_vec()),
        (Encoding::Histogram, int.snapshot().data.to_vec()),
        (Encoding::FloatHistogram, float.snapshot().data.to_vec()),
    ]
}

fn read_text(bytes: &[u8]) {
    let _ = BlockMeta::decode(bytes);
    let _ = DeletionMark::decode(bytes);
    let _ = NoCompactMark::decode(bytes);
    let _ = TenantDeletionMark::decode(bytes);
    let _ = BucketIndex::decode_json(bytes);
    let _ = BucketIndex::decode("here", bytes, 1 << 20);
    let _ = Tombstones::decode(bytes);
}

const META: &str = r#"{"ulid":"01M81S4Y5HSTNJNYGGEK41NWSC","minTime":1,"maxTime":2,"version":1,"stats":{"numSamples":1,"numSeries":1,"numChunks":1},
    "compaction":{"level":1,"sources":["01M81S4Y5HSTNJNYGGEK41NWSC"]},"thanos":{"labels":{},"downsample":{"resolution":0},"source":"receive"}}"#;

proptest! {
    #[test]
    fn chunks_of_nonsense_end_in_an_error(bytes: Vec<u8>, claimed: u16) {
        for encoding in ENCODINGS {
            read(encoding, &bytes);
            // A count that promises much more than there is.
            read(encoding, &[&claimed.to_be_bytes()[..], &bytes].concat());
        }
    }

    #[test]
    fn damaged_chunks_end_in_an_error_or_in_other_samples(which in 0usize..3, at: prop::sample::Index, with: u8, cut: prop::sample::Index) {
        let (encoding, mut data) = good_chunks().swap_remove(which);
        let at = at.index(data.len());
        data[at] = with;
        data.truncate(data.len() - cut.index(data.len()) % 9);
        read(encoding, &data);
        // The same bytes taken for another encoding.
        ENCODINGS.iter().for_each(|e| read(*e, &data));
    }

    #[test]
    fn texts_of_nonsense_are_errors(bytes: Vec<u8>, text in "[\\[\\]{}\",:a-z0-9]{0,200}") {
        read_text(&bytes);
        read_text(text.as_bytes());
    }

    #[test]
    fn a_damaged_meta_is_an_error_or_another_meta(at: prop::sample::Index, with: u8, cut: prop::sample::Index) {
        prop_assert!(BlockMeta::decode(META.as_bytes()).is_ok());
        let mut bytes = META.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = with;
        bytes.truncate(bytes.len() - cut.index(bytes.len()) % 5);
        read_text(&bytes);
    }
}

#[test]
fn a_bucket_index_that_unpacks_to_much_is_refused_by_its_bound() {
    use std::io::Write;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&vec![b' '; 4 << 20]).unwrap();
    let error = BucketIndex::decode("here", &gzip.finish().unwrap(), 1 << 20).unwrap_err();
    assert!(error.to_string().contains("1048576"), "{error}");
}
