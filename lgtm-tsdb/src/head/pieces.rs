//! A request in pieces, each bounded in log bytes before memory takes anything of it, and in work.
//!
//! Ordinary requests are one piece. A piece holds a thread of the runtime for a few milliseconds at most, and its records fit into the room
//! that was reserved for them in the log. What is larger than any record may be is refused and told; the rest is taken.

use std::ops::Range;

use super::append::AppendReport;
use crate::wire::{HistogramValue, MetadataEntry, PartView, SeriesView};

/// Series of a piece: looked up and appended to in about a millisecond.
const MAX_SERIES: usize = 4096;
/// Samples of a piece: the same.
const MAX_SAMPLES: usize = 16_384;
/// Log bytes of a piece, as far as the log's buffer allows: four requests of usual size.
const MAX_BYTES: u64 = 4 << 20;

/// Bytes of records beside what they hold: tenants (150 bytes at most), counts, lengths of columns, frames.
const RECORDS_BYTES: u64 = 2 << 10;
/// Bytes of an anchor beside the labels: id, base, count; and slack where labels are spelled anew.
const ANCHOR_BYTES: u64 = 64;
/// Bytes of a float at most: id 5, time 10, start 10, value 11.
const FLOAT_BYTES: u64 = 36;
/// Bytes of a histogram beside its lists.
const HISTOGRAM_BYTES: u64 = 128;
/// Reason of what is refused here.
const TOO_LARGE: &str = "log-record-too-large";

/// How large pieces may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct PieceBounds {
    /// Bytes at which a piece is closed.
    target: u64,
    /// Bytes that a single series, histogram or entry of metadata may take.
    single: u64,
    /// Samples that one sample may become.
    samples_each: u64,
}

impl PieceBounds {
    /// Bounds for a log whose buffer takes `max_buffered` bytes. `zero_at_start`: a zero may come before each sample.
    pub(super) fn new(max_buffered: u64, zero_at_start: bool) -> Self {
        Self {
            target: MAX_BYTES.min(max_buffered / 8),
            single: max_buffered / 2,
            samples_each: 1 + u64::from(zero_at_start),
        }
    }

    fn floats(&self, count: usize) -> u64 {
        count as u64 * FLOAT_BYTES * self.samples_each
    }

    fn histogram(&self, value: &HistogramValue) -> u64 {
        let (spans, buckets, custom) = match value {
            HistogramValue::Int(h) => (
                h.positive_spans.len() + h.negative_spans.len(),
                h.positive_deltas.len() + h.negative_deltas.len(),
                h.custom_values.len(),
            ),
            HistogramValue::Float(h) => (
                h.positive_spans.len() + h.negative_spans.len(),
                h.positive_counts.len() + h.negative_counts.len(),
                h.custom_values.len(),
            ),
        };
        // A zero before it has its custom values and no buckets.
        (HISTOGRAM_BYTES + custom as u64 * 8) * self.samples_each
            + spans as u64 * 15
            + buckets as u64 * 10
    }
}

/// A part of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// Places of its series in the request.
    pub(super) places: Range<usize>,
    /// Samples and histograms of the first series that earlier pieces have.
    skipped: (usize, usize),
    /// Where the last series is cut: samples and histograms of it up to this piece's end.
    end: (usize, usize),
    /// Its entries of metadata.
    pub(super) metadata: Range<usize>,
    /// Bytes that its records take in the log, at most.
    pub(super) log_bytes: u64,
}

impl Piece {
    /// What it has of the series at a place.
    #[inline]
    pub(super) fn series_at<'a>(&self, batch: PartView<'a>, place: usize) -> SeriesView<'a> {
        let view = batch.series_at(place);
        let is_first = place == self.places.start && self.skipped != (0, 0);
        let is_last = place + 1 == self.places.end && self.end != (usize::MAX, usize::MAX);
        if is_first || is_last {
            self.part(view, is_first, is_last)
        } else {
            view
        }
    }

    fn part<'a>(&self, view: SeriesView<'a>, is_first: bool, is_last: bool) -> SeriesView<'a> {
        let from = if is_first { self.skipped } else { (0, 0) };
        let to = if is_last {
            self.end
        } else {
            (usize::MAX, usize::MAX)
        };
        let samples = from.0..to.0.min(view.samples.len());
        SeriesView {
            labels: view.labels,
            samples: &view.samples[samples.clone()],
            sample_starts: view.sample_starts.get(samples).unwrap_or_default(),
            histograms: &view.histograms[from.1..to.1.min(view.histograms.len())],
            // They came with the first part.
            exemplars: if is_first { &[] } else { view.exemplars },
        }
    }
}

/// Cuts a request.
#[derive(Debug)]
pub(super) struct Pieces<'a> {
    batch: PartView<'a>,
    bounds: PieceBounds,
    place: usize,
    /// Samples and histograms of the series at `place` that earlier pieces have.
    taken: (usize, usize),
    metadata: usize,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(batch: PartView<'a>, bounds: PieceBounds) -> Self {
        Self {
            batch,
            bounds,
            place: 0,
            taken: (0, 0),
            metadata: 0,
        }
    }

    /// Takes up again where a piece was left: at a series behind its first.
    pub(super) fn resume_at(&mut self, piece: &Piece, place: usize) {
        (self.place, self.taken) = (place, (0, 0));
        self.metadata = piece.metadata.start;
    }

    /// The next piece. What is too large for any is told in the report.
    pub(super) fn next(&mut self, report: &mut AppendReport) -> Option<Piece> {
        let mut piece = Piece {
            places: self.place..self.place,
            skipped: self.taken,
            end: (usize::MAX, usize::MAX),
            metadata: self.metadata..self.metadata,
            log_bytes: RECORDS_BYTES,
        };
        let mut samples = 0;
        while self.place < self.batch.series_count() {
            let view = self.batch.series_at(self.place);
            let anchor = self.anchor_bytes(&view);
            let rest = &view.histograms[self.taken.1..];
            let floats = view.samples.len() - self.taken.0;
            let count = floats + rest.len();
            let histograms: u64 = rest.iter().map(|h| self.bounds.histogram(&h.value)).sum();
            let whole = anchor + self.bounds.floats(floats) + histograms;
            let fits = piece.log_bytes + whole <= self.bounds.target
                && samples + count <= MAX_SAMPLES
                && piece.places.len() < MAX_SERIES;
            if fits {
                piece.log_bytes += whole;
                samples += count;
                self.place += 1;
                self.taken = (0, 0);
                piece.places.end = self.place;
                continue;
            }
            if !piece.places.is_empty() {
                return Some(piece);
            }
            // Alone, and as much of it as fits; or nothing, when not even that does.
            if self.cut_series(&mut piece, &view, anchor, report) {
                return Some(piece);
            }
            piece.places = self.place..self.place;
            piece.skipped = self.taken;
        }
        self.take_metadata(&mut piece, report);
        (!piece.places.is_empty() || !piece.metadata.is_empty()).then_some(piece)
    }

    fn anchor_bytes(&self, view: &SeriesView<'_>) -> u64 {
        let labels = view.labels.as_bytes().len() as u64;
        let mut bytes = ANCHOR_BYTES + labels + labels / 2;
        if self.taken == (0, 0) {
            for e in view.exemplars {
                let pairs = e.labels.iter();
                bytes += 32
                    + pairs
                        .map(|(n, v)| (n.len() + v.len()) as u64 + 10)
                        .sum::<u64>();
            }
        }
        bytes
    }

    /// Puts a part of a series into an empty piece. False when something of it was refused instead; what comes then is up to the caller.
    fn cut_series(
        &mut self,
        piece: &mut Piece,
        view: &SeriesView<'_>,
        anchor: u64,
        report: &mut AppendReport,
    ) -> bool {
        let single = self.bounds.single;
        let mut bytes = piece.log_bytes + anchor;
        let (floats, histograms) = (view.samples.len(), view.histograms.len());
        if bytes + self.bounds.floats(1) > single {
            let lost = (floats - self.taken.0 + histograms - self.taken.1) as u64;
            report.rejected.add(TOO_LARGE, lost, || {
                format!(
                    "a series with {} bytes of labels takes {bytes} bytes in the log, where a record may have {single}: half of max_buffered",
                    view.labels.as_bytes().len()
                )
            });
            (self.place, self.taken) = (self.place + 1, (0, 0));
            return false;
        }
        let room = self.bounds.target.saturating_sub(bytes) / self.bounds.floats(1);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let n = (floats - self.taken.0).min(room.clamp(1, MAX_SAMPLES));
        let mut end = (self.taken.0 + n, self.taken.1);
        bytes += self.bounds.floats(n);
        while end.0 == floats && end.1 < histograms {
            let each = self.bounds.histogram(&view.histograms[end.1].value);
            let is_empty = end == self.taken;
            if is_empty && bytes + each > single {
                report.rejected.add(TOO_LARGE, 1, || {
                    format!(
                        "a native histogram takes {each} bytes in the log, where a record may have {single}: half of max_buffered"
                    )
                });
                self.taken.1 += 1;
                if self.taken == (floats, histograms) {
                    (self.place, self.taken) = (self.place + 1, (0, 0));
                }
                return false;
            }
            if !is_empty && bytes + each > self.bounds.target {
                break;
            }
            bytes += each;
            end.1 += 1;
        }
        piece.log_bytes = bytes;
        piece.places.end = self.place + 1;
        if end == (floats, histograms) {
            (self.place, self.taken) = (self.place + 1, (0, 0));
        } else {
            (self.taken, piece.end) = (end, end);
        }
        true
    }

    fn take_metadata(&mut self, piece: &mut Piece, report: &mut AppendReport) {
        while self.metadata < self.batch.metadata_count() {
            let each = metadata_bytes(self.batch.metadata_at(self.metadata));
            if RECORDS_BYTES + each > self.bounds.single {
                // What came before goes first, so that the piece stays one range.
                if !piece.metadata.is_empty() {
                    return;
                }
                let single = self.bounds.single;
                report.rejected.add(TOO_LARGE, 1, || {
                    format!(
                        "the metadata of one metric takes {each} bytes in the log, where a record may have {single}: half of max_buffered"
                    )
                });
                self.metadata += 1;
                piece.metadata = self.metadata..self.metadata;
                continue;
            }
            let is_empty = piece.metadata.is_empty() && piece.places.is_empty();
            let is_full = piece.log_bytes + each > self.bounds.target
                || piece.metadata.len() + piece.places.len() >= MAX_SERIES;
            if is_full && !is_empty {
                return;
            }
            piece.log_bytes += each;
            self.metadata += 1;
            piece.metadata.end = self.metadata;
        }
    }
}

fn metadata_bytes(entry: &MetadataEntry) -> u64 {
    let m = &entry.metadata;
    (entry.name.len() + m.help.len() + m.unit.len()) as u64 + 32
}
