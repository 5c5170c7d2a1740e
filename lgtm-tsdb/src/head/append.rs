//! Taking one write request into a head: one pass to find the series, one over the shards.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use std::collections::HashMap;

use lgtm_core::Result;
use lgtm_core::model::{
    CounterResetHint, FloatHistogram, Histogram, HistogramFault, Labels, TimestampMs,
};
use lgtm_core::postings::SeriesId;
use lgtm_core::wal::BlobFiles;
use serde::{Deserialize, Serialize};

use super::accept::{AppendRules, RejectReason, Taken};
use super::exemplars::EXEMPLAR_SERIES_MISSING;
use super::head::{Bounds, Head, Maker};
use super::pieces::Piece;
use super::record::{Anchors, Histograms, SampleColumns};
use super::series::{MemSeries, append_histogram, locate};
use super::shard::Shard;
use crate::chunk::SampleTime;
use crate::limits::Limits;
use crate::wire::{
    HistogramSample, HistogramValue, PartView, RawLabels, RawLabelsBuilder, SeriesView,
};

/// Series that a piece may bring which are not known: making one takes ten times as long as finding it.
const MAX_UNKNOWN_SERIES: usize = 512;

/// The stable name of a reason for which something was not stored, such as `sample-out-of-order`.
pub type ReasonId = Cow<'static, str>;

/// A fault of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Its stable name.
    pub reason: ReasonId,
    /// What is wrong, in words.
    pub message: String,
}

/// What was not taken of a request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Rejections {
    /// The first fault: what the sender is told.
    pub first: Option<Rejection>,
    /// Samples not taken, by reason.
    pub samples: HashMap<ReasonId, u64>,
}

impl Rejections {
    /// Counts `samples` under `reason`; the message is made only for the first.
    pub(crate) fn add(
        &mut self,
        reason: impl Into<ReasonId>,
        samples: u64,
        message: impl FnOnce() -> String,
    ) {
        let reason = reason.into();
        if self.first.is_none() {
            self.first = Some(Rejection {
                reason: reason.clone(),
                message: message(),
            });
        }
        *self.samples.entry(reason).or_default() += samples;
    }

    /// Samples not taken, in all.
    pub fn total(&self) -> u64 {
        self.samples.values().sum()
    }
}

/// What became of a request. Plain data, which can be sent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[must_use = "it tells what was not stored"]
pub struct AppendReport {
    /// Float samples stored or known already.
    pub samples: u64,
    /// Histograms stored or known already.
    pub histograms: u64,
    /// Exemplars stored or known already.
    pub exemplars: u64,
    /// Exemplars dropped, by reason; they do not fail a request.
    pub dropped_exemplars: HashMap<ReasonId, u64>,
    /// Metadata not kept, by reason; it does not fail a request either.
    pub dropped_metadata: HashMap<ReasonId, u64>,
    /// What was not taken.
    pub rejected: Rejections,
    /// Whether series were left out because the process holds as many as it may: sent again later they may find room.
    pub is_over_capacity: bool,
}

/// Buffers of the write path, kept from request to request so that nothing is allocated per series.
#[derive(Debug, Default)]
pub(super) struct AppendScratch {
    ids: Vec<Option<SeriesId>>,
    /// Canonical labels of series that came in another spelling, by their number in the piece.
    respelled: HashMap<usize, Vec<u8>>,
    pub(super) columns: SampleColumns,
    pub(super) histograms: Histograms,
    pub(super) anchors: Anchors,
    /// Series whose anchors are in `anchors`.
    pub(super) anchored: Vec<SeriesId>,
    /// The log epoch that the anchors are for.
    pub(super) epoch: u32,
    /// Buffer of the samples record.
    pub(super) record: Vec<u8>,
    /// Series (place in the request and id) with new exemplars.
    pub(super) exemplars: Vec<(u32, SeriesId)>,
}

/// What one piece is taken by. Series have numbers in it, from 0 on.
struct Pass<'a> {
    head: &'a Head,
    batch: PartView<'a>,
    piece: &'a Piece,
    rules: AppendRules,
    epoch: u32,
    now_s: u32,
    newest_ms: TimestampMs,
    /// Whether series begin with a zero at the time since when their sender counts.
    zero_at_start: bool,
    /// Whether samples keep since when they count.
    keeps_starts: bool,
    /// Samples and histograms taken.
    taken: u64,
    report: &'a mut AppendReport,
}

impl Head {
    /// Takes what the rules, which are those of the whole request, allow of a piece of it. Nothing is in the log yet: `scratch` holds what is to be logged. Gives the place
    /// behind the last series that was taken: where many series are new, that is before the piece's end.
    ///
    /// # Errors
    /// Only when the head itself cannot go on (`LimitExceeded` when symbols or ids run out); rejected samples are in the report.
    pub(super) fn append(
        &self,
        batch: PartView<'_>,
        piece: &Piece,
        rules: AppendRules,
        limits: &Limits,
        scratch: &mut AppendScratch,
        report: &mut AppendReport,
    ) -> Result<usize> {
        scratch.clear();
        let _gate = self.enter();
        self.find_all(
            (piece.places.clone()).map(|p| batch.series_at(p).labels.as_bytes()),
            &mut scratch.ids,
        );
        let mut pass = Pass {
            head: self,
            batch,
            piece,
            rules: rules.with_min_valid(self.min_valid_ms()),
            epoch: self.epoch.load(Ordering::Acquire),
            now_s: rules.now_s,
            newest_ms: TimestampMs::MIN,
            zero_at_start: limits.created_timestamp_zero_ingestion_enabled,
            keeps_starts: limits.st_storage_enabled,
            taken: 0,
            report,
        };
        let (mut maker, mut unknown) = (None, 0);
        for n in 0..scratch.ids.len() {
            if scratch.ids[n].is_none() {
                if unknown == MAX_UNKNOWN_SERIES {
                    scratch.ids.truncate(n);
                    break;
                }
                unknown += 1;
                let maker = maker.get_or_insert_with(|| self.maker());
                scratch.ids[n] = pass.resolve(n, maker, limits, &mut scratch.respelled)?;
            }
        }
        drop(maker);
        scratch.epoch = pass.epoch;
        let shards = self.shards();
        let mut n = 0;
        while n < scratch.ids.len() {
            match scratch.ids[n] {
                Some(id) => n = pass.run_of_shard(n, &shards[locate(id).0], limits, scratch),
                None => n += 1,
            }
        }
        if batch.has_exemplars() {
            pass.take_exemplars(limits.max_global_exemplars_per_user, scratch);
        }
        if pass.newest_ms > TimestampMs::MIN {
            self.raise_max_ms(pass.newest_ms);
        }
        self.appended.fetch_add(pass.taken, Ordering::Relaxed);
        self.touched_s.store(pass.now_s, Ordering::Relaxed);
        Ok(piece.places.start + scratch.ids.len())
    }

    /// Notes that the anchors of these series are in the log of `epoch`.
    pub(super) fn anchored(&self, ids: &[SeriesId], epoch: u32) {
        let shards = self.shards();
        for id in ids {
            let (shard, slot) = locate(*id);
            if let Some(Some(series)) = shards[shard].lock().get_mut(slot) {
                series.anchor_epoch = epoch;
            }
        }
    }
}

impl<'a> Pass<'a> {
    #[inline]
    fn series(&self, n: usize) -> SeriesView<'a> {
        self.piece
            .series_at(self.batch, self.piece.places.start + n)
    }

    /// The slow path: a series that is not known by these very bytes.
    fn resolve(
        &mut self,
        n: usize,
        maker: &mut Maker<'_>,
        limits: &Limits,
        respelled: &mut HashMap<usize, Vec<u8>>,
    ) -> Result<Option<SeriesId>> {
        let series = self.series(n);
        let samples = (series.samples.len() + series.histograms.len()) as u64;
        // Looked at where they stand: a set that is refused for its size is not copied first.
        let raw = || series.labels.iter().map_while(Result::ok);
        let bounds = limits.label_bounds();
        if let Some(id) = bounds.broken(raw()) {
            self.report.rejected.add(id, samples, || {
                let fault = bounds.check(raw()).err();
                fault.map(|f| f.message).unwrap_or_default()
            });
            return Ok(None);
        }
        let labels = match parse_labels(series.labels) {
            Ok(labels) => labels,
            Err((id, message)) => {
                self.report.rejected.add(id, samples, || message);
                return Ok(None);
            }
        };
        if let Err(fault) = limits.check_labels(&labels) {
            self.report
                .rejected
                .add(fault.id, samples, || fault.message);
            return Ok(None);
        }
        // A series that would begin empty is not made: it would be counted and shown.
        if self.would_be_empty(&series, limits) {
            self.reject_all(&series, limits);
            return Ok(None);
        }
        let base = series.samples.first().map_or(0.0, |s| s.value);
        let bounds = Bounds::Kept(limits);
        let made = if series.labels.is_canonical() {
            maker.get_or_create(series.labels.as_bytes(), &labels, base, bounds)?
        } else {
            let mut bytes = Vec::new();
            RawLabelsBuilder::encode(labels.iter(), &mut bytes);
            let made = maker.get_or_create(&bytes, &labels, base, bounds)?;
            respelled.insert(n, bytes);
            made
        };
        match made {
            Ok(id) => Ok(Some(id)),
            Err(reason) => {
                let bound = match reason {
                    RejectReason::MaxSeriesPerMetric => limits.max_global_series_per_metric,
                    RejectReason::MaxSeries => self.head.parts.capacity.max,
                    RejectReason::MaxSeriesShare => maker.share(),
                    _ => limits.max_global_series_per_user,
                };
                self.report.is_over_capacity |= matches!(
                    reason,
                    RejectReason::MaxSeries | RejectReason::MaxSeriesShare
                );
                self.report.rejected.add(reason.id(), samples, || {
                    format!("{} (limit: {bound}), series: {labels}", reason.message())
                });
                Ok(None)
            }
        }
    }

    /// Whether a series that does not exist yet would take nothing of what it came with.
    fn would_be_empty(&self, series: &SeriesView<'_>, limits: &Limits) -> bool {
        let refuses = |t_ms| self.rules.refuse_new(t_ms).is_some();
        series.samples.iter().all(|s| refuses(s.t_ms))
            && (series.histograms.iter())
                .all(|h| refuses(h.t_ms) || histogram_fault(&h.value, limits).is_some())
    }

    /// Says why a series that does not exist yet takes nothing. Exemplars make no series.
    fn reject_all(&mut self, series: &SeriesView<'_>, limits: &Limits) {
        for h in series.histograms {
            if let Some(fault) = histogram_fault(&h.value, limits) {
                self.reject_histogram(&fault, h.t_ms, series);
            } else if let Some(reason) = self.rules.refuse_new(h.t_ms) {
                self.reject(reason, h.t_ms, series);
            }
        }
        for s in series.samples {
            if let Some(reason) = self.rules.refuse_new(s.t_ms) {
                self.reject(reason, s.t_ms, series);
            }
        }
        if !series.exemplars.is_empty() {
            let dropped = &mut self.report.dropped_exemplars;
            *dropped.entry(EXEMPLAR_SERIES_MISSING.into()).or_default() +=
                series.exemplars.len() as u64;
        }
    }

    /// Takes the series from number `n` on for as long as they stand in this shard, under one lock. Gives the next number.
    fn run_of_shard(
        &mut self,
        mut n: usize,
        shard: &Shard,
        limits: &Limits,
        scratch: &mut AppendScratch,
    ) -> usize {
        let mut slots = shard.lock();
        let first = scratch.ids[n].map(|id| locate(id).0);
        while let Some(Some(id)) = scratch.ids.get(n).copied() {
            let (this, slot) = locate(id);
            if Some(this) != first {
                break;
            }
            if let Some(Some(series)) = slots.get_mut(slot) {
                let view = self.series(n);
                series.touched_s = self.now_s;
                if series.anchor_epoch != self.epoch {
                    let labels = scratch
                        .respelled
                        .get(&n)
                        .map_or(view.labels.as_bytes(), Vec::as_slice);
                    scratch.anchors.push(id, labels, series.base);
                    scratch.anchored.push(id);
                }
                self.take_floats(id, series, &view, &mut scratch.columns);
                if !view.histograms.is_empty() {
                    self.take_histograms(id, series, &view, limits, &mut scratch.histograms);
                }
            }
            n += 1;
        }
        n
    }

    #[inline]
    fn take_floats(
        &mut self,
        id: SeriesId,
        series: &mut MemSeries,
        view: &SeriesView<'_>,
        columns: &mut SampleColumns,
    ) {
        let files: &BlobFiles = &self.head.parts.files;
        let kept: &[TimestampMs] = if self.keeps_starts {
            view.sample_starts
        } else {
            &[]
        };
        for (i, sample) in view.samples.iter().enumerate() {
            if self.zero_at_start
                && let Some(zero) = zero_time(view.sample_starts.get(i), sample.t_ms, series)
                && let Ok(Taken::InOrder) = series.append_float(zero, 0.0, &self.rules, files)
            {
                columns.push(series.anchor(id), zero, 0.0);
            }
            let at = SampleTime {
                t_ms: sample.t_ms,
                start_ms: kept.get(i).copied().unwrap_or_default(),
            };
            match series.append_float(at, sample.value, &self.rules, files) {
                // One that is known is logged again: whoever brought it first may not have logged it yet.
                Ok(_) => {
                    columns.push(series.anchor(id), at, sample.value);
                    self.newest_ms = self.newest_ms.max(sample.t_ms);
                    self.report.samples += 1;
                    self.taken += 1;
                }
                Err(reason) => self.reject(reason, sample.t_ms, view),
            }
        }
    }

    fn take_histograms(
        &mut self,
        id: SeriesId,
        series: &mut MemSeries,
        view: &SeriesView<'_>,
        limits: &Limits,
        log: &mut Histograms,
    ) {
        let files = Arc::clone(&self.head.parts.files);
        for HistogramSample {
            t_ms,
            start_ms,
            value,
        } in view.histograms
        {
            if let Some(fault) = histogram_fault(value, limits) {
                self.reject_histogram(&fault, *t_ms, view);
                continue;
            }
            if self.zero_at_start
                && let Some(at) = zero_time(Some(start_ms), *t_ms, series)
            {
                let zero = zero_histogram(value);
                let taken = append_histogram(series, at, &zero, &self.rules, &files);
                if let Ok(Taken::InOrder) = taken {
                    log.push(series.anchor(id), at, &zero);
                }
            }
            let at = SampleTime {
                t_ms: *t_ms,
                start_ms: if self.keeps_starts {
                    *start_ms
                } else {
                    TimestampMs::EPOCH
                },
            };
            let taken = append_histogram(series, at, value, &self.rules, &files);
            match taken {
                Ok(_) => {
                    log.push(series.anchor(id), at, value);
                    self.newest_ms = self.newest_ms.max(*t_ms);
                    self.report.histograms += 1;
                    self.taken += 1;
                }
                Err(reason) => self.reject(reason, *t_ms, view),
            }
        }
    }

    #[cold]
    fn reject_histogram(
        &mut self,
        fault: &HistogramFault,
        t_ms: TimestampMs,
        view: &SeriesView<'_>,
    ) {
        self.report.rejected.add(fault.id, 1, || {
            format!(
                "received a native histogram sample with timestamp {t_ms} that is invalid: {}, series: {}",
                fault.message,
                in_words(view)
            )
        });
    }

    #[cold]
    fn reject(&mut self, reason: RejectReason, t_ms: TimestampMs, view: &SeriesView<'_>) {
        self.report.rejected.add(reason.id(), 1, || {
            format!(
                "{}. The affected sample has timestamp {t_ms} and is from series {}",
                reason.message(),
                in_words(view)
            )
        });
    }

    fn take_exemplars(&mut self, max: u64, scratch: &mut AppendScratch) {
        let mut ring = None;
        for n in 0..scratch.ids.len() {
            let Some(id) = scratch.ids[n] else {
                continue;
            };
            let view = self.series(n);
            for exemplar in view.exemplars {
                let ring = ring.get_or_insert_with(|| {
                    let mut ring = self.head.exemplars.lock();
                    ring.resize(max);
                    ring
                });
                match ring.push(id, exemplar) {
                    Ok(stored) => {
                        self.report.exemplars += 1;
                        if stored {
                            scratch
                                .exemplars
                                .push(((self.piece.places.start + n) as u32, id));
                        }
                    }
                    // As in Mimir, a bad exemplar is dropped and counted but does not fail the request.
                    Err(reason) => {
                        *self
                            .report
                            .dropped_exemplars
                            .entry(reason.into())
                            .or_default() += 1
                    }
                }
            }
        }
    }
}

fn histogram_fault(value: &HistogramValue, limits: &Limits) -> Option<HistogramFault> {
    let fault = |id, message| Some(HistogramFault { id, message });
    if !limits.native_histograms_ingestion_enabled {
        return fault(
            "native-histograms-disabled",
            "native histograms are not enabled for this tenant (native_histograms_ingestion_enabled)".into(),
        );
    }
    let (buckets, max) = (value.bucket_count(), limits.max_native_histogram_buckets);
    if max > 0 && buckets > max {
        return fault(
            "max-native-histogram-buckets",
            format!("it has {buckets} buckets, the limit is {max} (max_native_histogram_buckets)"),
        );
    }
    value.validate().err()
}

/// Where a zero belongs that says since when the sender counts: behind all that the series has, before the sample.
fn zero_time(
    start_ms: Option<&TimestampMs>,
    t_ms: TimestampMs,
    series: &MemSeries,
) -> Option<SampleTime> {
    let start_ms = *start_ms?;
    let fits = start_ms > 0 && start_ms < t_ms && start_ms > series.last().0;
    fits.then_some(SampleTime::unstarted(start_ms))
}

/// A histogram of the same shape that has counted nothing yet.
fn zero_histogram(value: &HistogramValue) -> HistogramValue {
    match value {
        HistogramValue::Int(h) => HistogramValue::Int(Box::new(Histogram {
            hint: CounterResetHint::Reset,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            custom_values: h.custom_values.clone(),
            ..Histogram::default()
        })),
        HistogramValue::Float(h) => HistogramValue::Float(Box::new(FloatHistogram {
            hint: CounterResetHint::Reset,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            custom_values: h.custom_values.clone(),
            ..FloatHistogram::default()
        })),
    }
}

fn in_words(view: &SeriesView<'_>) -> String {
    parse_labels(view.labels).map_or_else(|(_, e)| e, |l| l.to_string())
}

/// The label set of a series as it was sent: in any order, empty values dropped.
fn parse_labels(raw: RawLabels<'_>) -> std::result::Result<Labels, (&'static str, String)> {
    let mut pairs = Vec::new();
    for pair in raw.iter() {
        pairs.push(pair.map_err(|e| ("label-invalid", e.to_string()))?);
    }
    Labels::from_pairs(pairs).map_err(|e| {
        let text = e.to_string();
        let id = if text.starts_with("duplicate") {
            "duplicate-label-names"
        } else {
            "label-invalid"
        };
        (
            id,
            format!("received a series with an invalid label set: {text}"),
        )
    })
}

impl AppendScratch {
    fn clear(&mut self) {
        self.ids.clear();
        self.respelled.clear();
        self.anchored.clear();
        self.exemplars.clear();
    }
}
