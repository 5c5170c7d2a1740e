//! The values of one series at all steps.

use std::sync::Arc;

use lgtm_core::model::FloatHistogram;
use lgtm_core::vector::{Cells as GridCells, GAP, GridSeries, Overlap, is_gap};

/// A label set and its values.
pub(crate) type Series = GridSeries<Cells>;

/// One value per step, or none: a float, or a histogram.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cells {
    /// One per step; [`GAP`] where there is no float.
    pub(crate) floats: Vec<f64>,
    /// One per step, or empty while there is no histogram at all.
    pub(crate) histograms: Vec<Option<Arc<FloatHistogram>>>,
    /// Whether the metric's name is to go at the end of the query.
    pub(crate) drop_name: bool,
}

/// A value at a step.
#[derive(Debug, Clone)]
pub(crate) enum Element {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl Cells {
    /// Without values.
    pub(crate) fn gaps(steps: usize) -> Self {
        Self {
            floats: vec![GAP; steps],
            histograms: Vec::new(),
            drop_name: false,
        }
    }

    /// The same float at each step.
    pub(crate) fn of_floats(floats: Vec<f64>) -> Self {
        Self {
            floats,
            ..Self::default()
        }
    }

    /// Takes all values out; buffers are kept.
    pub(crate) fn reset(&mut self, steps: usize) {
        self.floats.clear();
        self.floats.resize(steps, GAP);
        self.histograms.clear();
        self.drop_name = false;
    }

    /// Number of steps.
    pub(crate) fn steps(&self) -> usize {
        self.floats.len()
    }

    /// Whether there is a value at a step.
    #[inline]
    pub(crate) fn has(&self, step: usize) -> bool {
        !is_gap(self.floats[step]) || self.histogram(step).is_some()
    }

    /// The histogram at a step.
    #[inline]
    pub(crate) fn histogram(&self, step: usize) -> Option<&Arc<FloatHistogram>> {
        self.histograms.get(step).and_then(Option::as_ref)
    }

    /// The value at a step.
    #[inline]
    pub(crate) fn get(&self, step: usize) -> Option<Element> {
        let v = self.floats[step];
        if is_gap(v) {
            self.histogram(step).cloned().map(Element::Histogram)
        } else {
            Some(Element::Float(v))
        }
    }

    /// Sets a value.
    pub(crate) fn set(&mut self, step: usize, value: Element) {
        match value {
            Element::Float(v) => {
                self.floats[step] = v;
                if let Some(h) = self.histograms.get_mut(step) {
                    *h = None;
                }
            }
            Element::Histogram(h) => self.set_histogram(step, h),
        }
    }

    /// Sets a histogram.
    pub(crate) fn set_histogram(&mut self, step: usize, h: Arc<FloatHistogram>) {
        self.floats[step] = GAP;
        if self.histograms.is_empty() {
            self.histograms.resize(self.floats.len(), None);
        }
        self.histograms[step] = Some(h);
    }

    /// Takes a value out.
    pub(crate) fn unset(&mut self, step: usize) {
        self.floats[step] = GAP;
        if let Some(h) = self.histograms.get_mut(step) {
            *h = None;
        }
    }

    /// Whether there is no value.
    pub(crate) fn is_empty(&self) -> bool {
        self.floats.iter().all(|v| is_gap(*v)) && self.histograms.iter().all(Option::is_none)
    }

    /// Whether some value is a histogram.
    pub(crate) fn has_histograms(&self) -> bool {
        !self.histograms.is_empty()
    }

    /// Number of values, a histogram counted by its size as Prometheus does: in units of a float with its time.
    pub(crate) fn points(&self) -> u64 {
        let floats = self.floats.iter().filter(|v| !is_gap(**v)).count() as u64;
        let histograms = self.histograms.iter().flatten();
        floats + histograms.map(|h| histogram_points(h)).sum::<u64>()
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> u64 {
        let own = self.floats.len() * size_of::<f64>()
            + self.histograms.len() * size_of::<Option<Arc<FloatHistogram>>>();
        let histograms = self.histograms.iter().flatten();
        own as u64 + histograms.map(|h| 16 * histogram_points(h)).sum::<u64>()
    }

    /// The value of the only step at each of `steps` steps.
    pub(crate) fn repeated(self, steps: usize) -> Self {
        Self {
            floats: vec![self.floats[0]; steps],
            histograms: if self.histograms.is_empty() {
                Vec::new()
            } else {
                vec![self.histograms[0].clone(); steps]
            },
            drop_name: self.drop_name,
        }
    }
}

/// The size of a histogram in units of a float with its time, as Prometheus counts.
pub(crate) fn histogram_points(h: &FloatHistogram) -> u64 {
    let values = h.positive_counts.len() + h.negative_counts.len() + h.custom_values.len();
    let spans = h.positive_spans.len() + h.negative_spans.len();
    ((values * 8 + spans * 8 + 176) / 16) as u64
}

impl crate::promql::functions::Cell for Cells {
    #[inline]
    fn float(&mut self, step: usize, value: f64) {
        self.floats[step] = value;
    }

    fn histogram(&mut self, step: usize, value: FloatHistogram) {
        self.set_histogram(step, Arc::new(value));
    }
}

impl GridCells for Cells {
    fn merge(&mut self, other: Self) -> Result<(), Overlap> {
        self.drop_name |= other.drop_name;
        for step in 0..self.steps() {
            if let Some(value) = other.get(step) {
                if self.has(step) {
                    return Err(Overlap);
                }
                self.set(step, value);
            }
        }
        Ok(())
    }
}
