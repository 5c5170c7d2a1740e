//! The distributor as the place where other components put samples.

use async_trait::async_trait;
use lgtm_core::model::{Sample, TenantId};
use lgtm_core::sink::{SampleSink, SinkReport, SinkSample, SinkValue};
use lgtm_core::{Error, Result};

use super::Distributor;
use crate::wire::WriteBatch;

#[async_trait]
impl SampleSink for Distributor {
    async fn write(&self, tenant: &TenantId, samples: &[SinkSample]) -> Result<SinkReport> {
        let mut ticket = self.inflight().ticket();
        ticket.add(samples.iter().map(size_bytes).sum())?;
        let mut batch = self.batch(ticket);
        for some in samples.chunks(AT_ONCE) {
            some.iter().for_each(|sample| add(&mut batch, sample));
            // A rule may have a million series.
            tokio::task::yield_now().await;
        }
        let outcome = self.push(tenant, batch).await?;
        let fault = outcome.fault().map(|f| f.message.clone());
        if outcome.report.is_over_capacity {
            return Err(Error::Unavailable(fault.unwrap_or_default()));
        }
        Ok(SinkReport {
            refused: outcome.report.rejected.total(),
            fault,
        })
    }
}

/// Samples that become part of a batch in a millisecond.
const AT_ONCE: usize = 2048;

/// What a sample takes in a batch, about.
fn size_bytes(sample: &SinkSample) -> u64 {
    let values = match &sample.value {
        SinkValue::Float(_) => 1,
        SinkValue::Histogram(h) => {
            16 + h.positive_spans.len()
                + h.negative_spans.len()
                + h.positive_deltas.len()
                + h.negative_deltas.len()
                + h.custom_values.len()
        }
        SinkValue::FloatHistogram(h) => {
            16 + h.positive_spans.len()
                + h.negative_spans.len()
                + h.positive_counts.len()
                + h.negative_counts.len()
                + h.custom_values.len()
        }
    };
    let exemplar = sample
        .exemplar
        .as_ref()
        .map_or(0, |e| e.labels.size_bytes());
    (sample.labels.size_bytes() + exemplar + 32 + values * 8) as u64
}

fn add(batch: &mut WriteBatch, sample: &SinkSample) {
    let (labels, t_ms) = (sample.labels.iter(), sample.t_ms);
    let before = batch.series_count();
    match &sample.value {
        SinkValue::Float(value) => {
            let value = *value;
            batch.push_series(labels, &[Sample { t_ms, value }]);
        }
        SinkValue::Histogram(histogram) => {
            batch.push_histogram(labels, t_ms, (**histogram).clone());
        }
        SinkValue::FloatHistogram(histogram) => {
            batch.push_histogram(labels, t_ms, (**histogram).clone());
        }
    }
    // A series for which there was no room has none either.
    if let Some(exemplar) = &sample.exemplar
        && batch.series_count() > before
    {
        batch.push_exemplar(exemplar.clone());
    }
}

#[cfg(test)]
mod tests {
    use lgtm_core::model::{Exemplar, Labels, TimestampMs};

    use super::*;

    #[test]
    fn samples_of_all_kinds_become_series_of_the_batch() {
        let labels = |name| Labels::from_pairs([("__name__", name)]).unwrap();
        let exemplar = Exemplar {
            labels: Labels::from_pairs([("trace_id", "x")]).unwrap(),
            value: 2.0,
            t_ms: TimestampMs::new(5),
        };
        let mut batch = WriteBatch::default();
        add(
            &mut batch,
            &SinkSample::float(labels("a"), TimestampMs::new(5), 1.0),
        );
        let histogram = SinkSample {
            labels: labels("h"),
            t_ms: TimestampMs::new(6),
            value: SinkValue::Histogram(Box::default()),
            exemplar: Some(exemplar.clone()),
        };
        add(&mut batch, &histogram);
        let series: Vec<_> = batch.series().collect();
        assert_eq!(series[0].samples.len() + series[1].histograms.len(), 2);
        assert_eq!(
            [series[0].samples[0].t_ms, series[1].histograms[0].t_ms],
            [5, 6]
        );
        assert!(series[0].exemplars.is_empty());
        assert_eq!(series[1].exemplars, [exemplar]);
    }
}
