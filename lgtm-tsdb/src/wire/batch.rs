//! One decoded write request.
//!
//! Flat vectors that keep their capacity from request to request: decoding allocates nothing per series or sample once they
//! have grown. Labels are ranges of the request's own bytes, or of an arena for protocols that spell them otherwise.

use std::ops::Range;

use lgtm_core::limits::Reusable;
use lgtm_core::model::{
    Exemplar, FloatHistogram, Histogram, HistogramFault, Metadata, Sample, TimestampMs,
};

use super::raw_labels::RawLabels;

/// A native histogram of either kind.
#[derive(Debug, Clone, PartialEq)]
pub enum HistogramValue {
    /// Integer counts.
    Int(Box<Histogram>),
    /// Float counts.
    Float(Box<FloatHistogram>),
}

impl HistogramValue {
    /// Buckets of both signs.
    pub fn bucket_count(&self) -> usize {
        match self {
            Self::Int(h) => h.positive_deltas.len() + h.negative_deltas.len(),
            Self::Float(h) => h.positive_counts.len() + h.negative_counts.len(),
        }
    }

    /// Heap bytes of the histogram, its own box included.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Int(h) => {
                size_of::<Histogram>()
                    + bytes_of(&h.positive_spans)
                    + bytes_of(&h.negative_spans)
                    + bytes_of(&h.positive_deltas)
                    + bytes_of(&h.negative_deltas)
                    + bytes_of(&h.custom_values)
            }
            Self::Float(h) => {
                size_of::<FloatHistogram>()
                    + bytes_of(&h.positive_spans)
                    + bytes_of(&h.negative_spans)
                    + bytes_of(&h.positive_counts)
                    + bytes_of(&h.negative_counts)
                    + bytes_of(&h.custom_values)
            }
        }
    }

    /// As [`Histogram::check_size`].
    ///
    /// # Errors
    /// As there.
    pub fn check_size(&self) -> Result<(), HistogramFault> {
        match self {
            Self::Int(h) => h.check_size(),
            Self::Float(h) => h.check_size(),
        }
    }

    /// As [`Histogram::validate`] and [`FloatHistogram::validate`].
    ///
    /// # Errors
    /// As there.
    pub fn validate(&self) -> Result<(), HistogramFault> {
        match self {
            Self::Int(h) => h.validate(),
            Self::Float(h) => h.validate(),
        }
    }
}

impl From<Histogram> for HistogramValue {
    fn from(h: Histogram) -> Self {
        Self::Int(Box::new(h))
    }
}

impl From<FloatHistogram> for HistogramValue {
    fn from(h: FloatHistogram) -> Self {
        Self::Float(Box::new(h))
    }
}

/// A native histogram at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSample {
    /// When, milliseconds.
    pub t_ms: TimestampMs,
    /// Since when it counts, milliseconds; 0 when not known.
    pub start_ms: TimestampMs,
    /// What.
    pub value: HistogramValue,
}

/// Metadata of one metric family.
#[derive(Debug, Clone, PartialEq)]
pub struct MetadataEntry {
    /// Name of the family.
    pub name: String,
    /// Type, help, unit.
    pub metadata: Metadata,
}

/// Something of a request that was not taken into the batch, while the rest was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MalformedSeries {
    /// Stable id of the rule it breaks, e.g. `malformed-series` or `label-value-too-long`.
    pub id: &'static str,
    /// Samples and histograms it had; 0 for metadata.
    pub samples: u64,
    /// What is wrong with it.
    pub message: String,
}

/// Characters that names and values of an exemplar's labels may have together, by OpenMetrics.
pub(crate) const MAX_EXEMPLAR_CHARS: usize = 128;
/// Faults of a request told one by one; further ones are counted with one of the same rule.
const MAX_FAULTS: usize = 64;

/// Where a series' labels stand.
#[derive(Debug, Clone)]
pub(super) enum LabelPlace {
    Body(Range<u32>),
    Arena(Range<u32>),
}

/// Where the parts of a series stand in the flat vectors.
#[derive(Debug, Clone)]
pub(super) struct SeriesEntry {
    pub(super) labels: LabelPlace,
    pub(super) samples: Range<u32>,
    pub(super) histograms: Range<u32>,
    pub(super) exemplars: Range<u32>,
}

/// A series of a request.
#[derive(Debug, Clone, Copy)]
pub struct SeriesView<'a> {
    /// Its labels, not looked into yet.
    pub labels: RawLabels<'a>,
    /// Its floats.
    pub samples: &'a [Sample],
    /// Start timestamps of `samples`, milliseconds, 0 when not known; empty when the protocol has none.
    pub sample_starts: &'a [TimestampMs],
    /// Its native histograms.
    pub histograms: &'a [HistogramSample],
    /// Its exemplars.
    pub exemplars: &'a [Exemplar],
}

/// One decoded write request.
#[derive(Debug, Default)]
pub struct WriteBatch {
    /// The request, decompressed.
    pub(super) body: Vec<u8>,
    /// Labels that do not stand in the body as they should.
    pub(super) arena: Vec<u8>,
    pub(super) series: Vec<SeriesEntry>,
    pub(super) samples: Vec<Sample>,
    pub(super) sample_starts: Vec<TimestampMs>,
    pub(super) histograms: Vec<HistogramSample>,
    pub(super) exemplars: Vec<Exemplar>,
    pub(super) metadata: Vec<MetadataEntry>,
    pub(super) malformed: Vec<MalformedSeries>,
    pub(super) long_exemplars: u64,
}

/// A [`WriteBatch`] under way.
pub type PooledBatch = lgtm_core::limits::PooledBatch<WriteBatch>;

impl Reusable for WriteBatch {
    fn clear(&mut self) {
        Self::clear(self);
    }

    fn heap_bytes(&self) -> usize {
        Self::heap_bytes(self)
    }
}

impl WriteBatch {
    /// Forgets the request but keeps the memory.
    pub fn clear(&mut self) {
        self.body.clear();
        self.arena.clear();
        self.series.clear();
        self.samples.clear();
        self.sample_starts.clear();
        self.histograms.clear();
        self.exemplars.clear();
        self.metadata.clear();
        self.malformed.clear();
        self.long_exemplars = 0;
    }

    /// Heap bytes of the batch, those of its histograms, exemplars and texts included; after [`WriteBatch::clear`], what it keeps for
    /// the next request. Costs a walk over the nested ones.
    pub fn heap_bytes(&self) -> usize {
        let flat = bytes_of(&self.body)
            + bytes_of(&self.arena)
            + bytes_of(&self.series)
            + bytes_of(&self.samples)
            + bytes_of(&self.sample_starts)
            + bytes_of(&self.histograms)
            + bytes_of(&self.exemplars)
            + bytes_of(&self.metadata)
            + bytes_of(&self.malformed);
        let histograms = self.histograms.iter().map(|h| h.value.heap_bytes());
        let exemplars = self.exemplars.iter().map(|e| e.labels.size_bytes());
        let metadata = self
            .metadata
            .iter()
            .map(|m| m.name.capacity() + m.metadata.help.capacity() + m.metadata.unit.capacity());
        let malformed = self.malformed.iter().map(|m| m.message.capacity());
        flat + histograms
            .chain(exemplars)
            .chain(metadata)
            .chain(malformed)
            .sum::<usize>()
    }

    /// Number of series.
    pub fn series_count(&self) -> usize {
        self.series.len()
    }

    /// Number of float samples.
    pub fn sample_count(&self) -> usize {
        self.samples.len()
    }

    /// Number of native histograms.
    pub fn histogram_count(&self) -> usize {
        self.histograms.len()
    }

    /// Number of exemplars.
    pub fn exemplar_count(&self) -> usize {
        self.exemplars.len()
    }

    /// The series in the order in which they came.
    pub fn series(&self) -> impl Iterator<Item = SeriesView<'_>> {
        self.series.iter().map(|s| self.view(s))
    }

    /// The series at a place in the request.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn series_at(&self, place: usize) -> SeriesView<'_> {
        self.view(&self.series[place])
    }

    #[inline]
    fn view(&self, s: &SeriesEntry) -> SeriesView<'_> {
        let of = |r: &Range<u32>| r.start as usize..r.end as usize;
        let labels = match &s.labels {
            LabelPlace::Body(r) => &self.body[of(r)],
            LabelPlace::Arena(r) => &self.arena[of(r)],
        };
        SeriesView {
            labels: RawLabels::new(labels),
            samples: &self.samples[of(&s.samples)],
            sample_starts: if self.sample_starts.is_empty() {
                &[]
            } else {
                &self.sample_starts[of(&s.samples)]
            },
            histograms: &self.histograms[of(&s.histograms)],
            exemplars: &self.exemplars[of(&s.exemplars)],
        }
    }

    /// Metadata of the request.
    pub fn metadata(&self) -> &[MetadataEntry] {
        &self.metadata
    }

    /// What was left out because it breaks a rule: the first faults one by one, the others counted with one of the same rule.
    pub fn malformed(&self) -> &[MalformedSeries] {
        &self.malformed
    }

    /// Exemplars that were left out because their labels are too long.
    pub fn long_exemplar_count(&self) -> u64 {
        self.long_exemplars
    }

    /// Notes that something with so many samples is left out.
    pub(super) fn refuse(
        &mut self,
        id: &'static str,
        samples: u64,
        message: impl FnOnce() -> String,
    ) {
        if self.malformed.len() >= MAX_FAULTS
            && let Some(same) = self.malformed.iter_mut().rfind(|m| m.id == id)
        {
            same.samples += samples;
            return;
        }
        self.malformed.push(MalformedSeries {
            id,
            samples,
            message: message(),
        });
    }

    /// Adds a series by hand; `labels` are sorted and have nothing empty. One for which 32-bit places are not enough (4 GiB of labels) is
    /// left out and stands among the [malformed](WriteBatch::malformed).
    pub fn push_series<'a>(
        &mut self,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        samples: &[Sample],
    ) {
        self.add_series(labels, samples);
    }

    /// Whether there was room for the series.
    fn add_series<'a>(
        &mut self,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        samples: &[Sample],
    ) -> bool {
        let (start, first) = (self.arena.len(), self.samples.len());
        super::raw_labels::RawLabelsBuilder::encode(labels, &mut self.arena);
        let ends = (
            u32::try_from(self.arena.len()),
            u32::try_from(first + samples.len()),
        );
        let (Ok(arena_end), Ok(samples_end)) = ends else {
            self.arena.truncate(start);
            self.refuse("batch-too-large", samples.len() as u64, || {
                "labels or samples of the batch take more than 32-bit places can tell".to_owned()
            });
            return false;
        };
        self.samples.extend_from_slice(samples);
        if !self.sample_starts.is_empty() {
            self.sample_starts
                .resize(self.samples.len(), TimestampMs::EPOCH);
        }
        let entry = SeriesEntry {
            labels: LabelPlace::Arena(start as u32..arena_end),
            samples: first as u32..samples_end,
            histograms: self.no_histograms(),
            exemplars: self.no_exemplars(),
        };
        self.series.push(entry);
        true
    }

    /// Adds a series by hand as [`WriteBatch::push_series`] does, with the start timestamps of its samples: milliseconds, 0 where
    /// not known or where there are fewer than samples.
    pub fn push_started_series<'a>(
        &mut self,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        samples: &[Sample],
        starts: &[TimestampMs],
    ) {
        let before = self.samples.len();
        if !self.add_series(labels, samples) {
            return;
        }
        self.sample_starts.resize(before, TimestampMs::EPOCH);
        let starts = starts.iter().take(samples.len());
        self.sample_starts.extend(starts);
        self.sample_starts
            .resize(self.samples.len(), TimestampMs::EPOCH);
    }

    /// Adds a series with one native histogram by hand; `labels` as in [`WriteBatch::push_series`].
    pub fn push_histogram<'a>(
        &mut self,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        t_ms: TimestampMs,
        histogram: impl Into<HistogramValue>,
    ) {
        let sample = HistogramSample {
            t_ms,
            start_ms: TimestampMs::EPOCH,
            value: histogram.into(),
        };
        self.push_histogram_sample(labels, sample);
    }

    /// Adds a series with one native histogram by hand as [`WriteBatch::push_histogram`] does, with its start timestamp.
    pub fn push_histogram_sample<'a>(
        &mut self,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        sample: HistogramSample,
    ) {
        if !self.add_series(labels, &[]) {
            return;
        }
        self.histograms.push(sample);
        if let Some(series) = self.series.last_mut() {
            series.histograms.end += 1;
        }
    }

    /// Adds an exemplar by hand to the series that was added last; without a series it is left out.
    pub fn push_exemplar(&mut self, exemplar: Exemplar) {
        if let Some(series) = self.series.last_mut() {
            self.exemplars.push(exemplar);
            series.exemplars.end += 1;
        }
    }

    /// Adds metadata by hand.
    pub fn push_metadata(&mut self, entry: MetadataEntry) {
        self.metadata.push(entry);
    }

    pub(super) fn no_histograms(&self) -> Range<u32> {
        let n = self.histograms.len() as u32;
        n..n
    }

    pub(super) fn no_exemplars(&self) -> Range<u32> {
        let n = self.exemplars.len() as u32;
        n..n
    }
}

fn bytes_of<T>(vec: &Vec<T>) -> usize {
    vec.capacity() * size_of::<T>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lgtm_core::model::{BucketSpan, Labels, MetricType};

    #[test]
    fn all_that_a_batch_holds_is_measured_and_clearing_lets_go_of_what_is_nested() {
        const MIB: usize = 1 << 20;
        let mut batch = WriteBatch::default();
        assert_eq!(batch.heap_bytes(), 0);
        let spans = BucketSpan::default();
        batch.push_histogram(
            std::iter::empty(),
            TimestampMs::new(1),
            Histogram {
                positive_spans: vec![spans; MIB / 8],
                negative_deltas: vec![0; MIB / 8],
                custom_values: vec![0.0; MIB / 8],
                ..Histogram::default()
            },
        );
        batch.push_histogram(
            std::iter::empty(),
            TimestampMs::new(1),
            FloatHistogram {
                positive_counts: vec![0.0; MIB / 8],
                negative_spans: vec![spans; MIB / 8],
                ..FloatHistogram::default()
            },
        );
        let text = "x".repeat(MIB);
        batch.exemplars.push(Exemplar {
            labels: Labels::from_pairs([("a", &text)]).unwrap(),
            value: 1.0,
            t_ms: TimestampMs::new(1),
        });
        batch.metadata.push(MetadataEntry {
            name: text.clone(),
            metadata: Metadata {
                metric_type: MetricType::Unknown,
                help: text.clone(),
                unit: text.clone(),
            },
        });
        batch.refuse("a", 1, || text.clone());
        let nested = 10 * MIB;
        assert!(
            (nested..nested + (64 << 10)).contains(&batch.heap_bytes()),
            "{}",
            batch.heap_bytes()
        );
        batch.clear();
        assert!(batch.heap_bytes() < 64 << 10);
        // Each flat vector counts.
        let mut last = batch.heap_bytes();
        batch.body.reserve_exact(MIB);
        batch.arena.reserve_exact(MIB);
        batch.series.reserve_exact(MIB);
        batch.samples.reserve_exact(MIB);
        batch.sample_starts.reserve_exact(MIB);
        batch.histograms.reserve_exact(MIB);
        batch.exemplars.reserve_exact(MIB);
        batch.metadata.reserve_exact(MIB);
        batch.malformed.reserve_exact(MIB);
        last = batch.heap_bytes() - last;
        let entries = size_of::<(SeriesEntry, Sample, TimestampMs, HistogramSample)>()
            + size_of::<(Exemplar, MetadataEntry, MalformedSeries)>();
        assert!(last >= MIB * (2 + entries - 32), "{last}");
    }

    #[test]
    fn faults_are_told_one_by_one_only_so_far() {
        let mut batch = WriteBatch::default();
        for n in 0..1000u32 {
            let id = if n % 2 == 0 { "even" } else { "odd" };
            batch.refuse(id, 2, || format!("fault {n}"));
        }
        batch.refuse("late", 1, || "late".to_owned());
        assert_eq!(batch.malformed().len(), MAX_FAULTS + 1);
        let of = |id| -> u64 {
            let same = batch.malformed().iter().filter(|m| m.id == id);
            same.map(|m| m.samples).sum()
        };
        assert_eq!((of("even"), of("odd"), of("late")), (1000, 1000, 1));
        assert_eq!(batch.malformed()[0].message, "fault 0");
    }
}
