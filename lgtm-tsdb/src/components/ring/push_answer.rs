//! What several ingesters say of a push, as one.

use lgtm_ring::replicas::{Copies, PushAnswer};

use crate::head::AppendReport;

impl PushAnswer for AppendReport {
    fn refusal(&self) -> Option<String> {
        self.rejected.first.as_ref().map(|r| r.message.clone())
    }

    fn joined<'a>(answers: impl Iterator<Item = &'a Self>, copies: Copies) -> Self {
        let mut all = Self::default();
        for report in answers {
            all.samples += report.samples;
            all.histograms += report.histograms;
            all.exemplars += report.exemplars;
            all.is_over_capacity |= report.is_over_capacity;
            for (reason, n) in &report.dropped_exemplars {
                *all.dropped_exemplars.entry(reason.clone()).or_default() += n;
            }
            for (reason, n) in &report.dropped_metadata {
                *all.dropped_metadata.entry(reason.clone()).or_default() += n;
            }
            for (reason, n) in &report.rejected.samples {
                *all.rejected.samples.entry(reason.clone()).or_default() += n;
            }
            if all.rejected.first.is_none() {
                all.rejected.first.clone_from(&report.rejected.first);
            }
        }
        for sum in [&mut all.samples, &mut all.histograms, &mut all.exemplars] {
            *sum = copies.once(*sum);
        }
        for counts in [
            &mut all.dropped_exemplars,
            &mut all.dropped_metadata,
            &mut all.rejected.samples,
        ] {
            counts.values_mut().for_each(|n| *n = copies.once(*n));
        }
        all
    }

    fn forget_refusals(&mut self) {
        self.rejected = Default::default();
        self.is_over_capacity = false;
    }
}
