//! What several ingesters say of a push, as one.

use lgtm_ring::replicas::{Copies, PushAnswer};

use crate::limits::PushReport;

impl PushAnswer for PushReport {
    fn refusal(&self) -> Option<String> {
        if let Some(message) = self.messages.values().next() {
            return Some(message.clone());
        }
        let (rule, _) = self.refused.first_key_value()?;
        Some(format!("refused: {}", rule.id()))
    }

    fn joined<'a>(answers: impl Iterator<Item = &'a Self>, copies: Copies) -> Self {
        let mut all = Self::default();
        answers.for_each(|report| all.merge(report.clone()));
        for sum in [&mut all.spans, &mut all.bytes]
            .into_iter()
            .chain(all.refused.values_mut())
        {
            *sum = copies.once(*sum);
        }
        all
    }

    fn forget_refusals(&mut self) {
        self.refused.clear();
        self.messages.clear();
    }
}
