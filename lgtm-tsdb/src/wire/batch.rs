//! One decoded write request.
//!
//! Flat vectors that keep their capacity from request to request: decoding allocates nothing per series or sample once they
//! have grown. Labels are ranges of the request's own bytes, or of an arena for protocols that spell them otherwise.

use std::ops::Range;

use lgtm_core::model::{Exemplar, FloatHistogram, Histogram, HistogramFault, Metadata, Sample};

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
    pub t_ms: i64,
    /// Since when it counts, milliseconds; 0 when not known.
    pub start_ms: i64,
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

/// A series that could not be decoded, while the rest of its request could.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MalformedSeries {
    /// Samples and histograms it had.
    pub samples: u64,
    /// What is wrong with it.
    pub message: String,
}

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
    pub sample_starts: &'a [i64],
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
    pub(super) sample_starts: Vec<i64>,
    pub(super) histograms: Vec<HistogramSample>,
    pub(super) exemplars: Vec<Exemplar>,
    pub(super) metadata: Vec<MetadataEntry>,
    pub(super) malformed: Vec<MalformedSeries>,
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
    }

    /// Bytes of memory that the batch keeps for the next request.
    pub fn heap_bytes(&self) -> usize {
        self.body.capacity()
            + self.arena.capacity()
            + self.series.capacity() * size_of::<SeriesEntry>()
            + self.samples.capacity() * size_of::<Sample>()
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

    /// Series that were left out because they are malformed.
    pub fn malformed(&self) -> &[MalformedSeries] {
        &self.malformed
    }

    /// Adds a series by hand; `labels` are sorted and have nothing empty.
    pub fn push_series<'a>(
        &mut self,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        samples: &[Sample],
    ) {
        let start = self.arena.len() as u32;
        super::raw_labels::RawLabelsBuilder::encode(labels, &mut self.arena);
        let first = self.samples.len() as u32;
        self.samples.extend_from_slice(samples);
        if !self.sample_starts.is_empty() {
            self.sample_starts.resize(self.samples.len(), 0);
        }
        let entry = SeriesEntry {
            labels: LabelPlace::Arena(start..self.arena.len() as u32),
            samples: first..self.samples.len() as u32,
            histograms: self.no_histograms(),
            exemplars: self.no_exemplars(),
        };
        self.series.push(entry);
    }

    /// Adds a series by hand as [`WriteBatch::push_series`] does, with the start timestamps of its samples: milliseconds, 0 where
    /// not known or where there are fewer than samples.
    pub fn push_started_series<'a>(
        &mut self,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        samples: &[Sample],
        starts: &[i64],
    ) {
        let before = self.samples.len();
        self.push_series(labels, samples);
        self.sample_starts.resize(before, 0);
        let starts = starts.iter().take(samples.len());
        self.sample_starts.extend(starts);
        self.sample_starts.resize(self.samples.len(), 0);
    }

    /// Adds a series with one native histogram by hand; `labels` as in [`WriteBatch::push_series`].
    pub fn push_histogram<'a>(
        &mut self,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        t_ms: i64,
        histogram: impl Into<HistogramValue>,
    ) {
        let sample = HistogramSample {
            t_ms,
            start_ms: 0,
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
        self.push_series(labels, &[]);
        self.histograms.push(sample);
        if let Some(series) = self.series.last_mut() {
            series.histograms.end += 1;
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
