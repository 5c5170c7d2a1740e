//! What several ingesters say of a push, as one.

use lgtm_ring::replicas::{Copies, PushAnswer};

use crate::limits::PushReport;

impl PushAnswer for PushReport {
    fn refusal(&self) -> Option<String> {
        if let Some(whole) = &self.whole {
            return Some(whole.message.clone());
        }
        let ignored = self.ignored.iter().flat_map(|i| &i.messages);
        let mut messages = ignored.chain(self.invalid.iter().map(|(_, m)| m));
        if let Some(message) = messages.next() {
            return Some(message.clone());
        }
        let (rule, _) = self.refused.first_key_value()?;
        Some(format!("refused: {}", rule.id()))
    }

    fn joined<'a>(answers: impl Iterator<Item = &'a Self>, copies: Copies) -> Self {
        let mut all = Self::default();
        for report in answers {
            all.entries += report.entries;
            all.bytes += report.bytes;
            all.duplicates += report.duplicates;
            for (rule, refused) in &report.refused {
                all.count(*rule, refused.entries, refused.bytes);
            }
            for told in &report.invalid {
                if !all.invalid.contains(told) {
                    all.invalid.push(told.clone());
                }
            }
            // Replicas tell of the same stream, each of all that came for it.
            for ignored in &report.ignored {
                let mut known = all.ignored.iter_mut();
                match known.find(|known| known.stream == ignored.stream) {
                    Some(known) if known.ignored < ignored.ignored => known.clone_from(ignored),
                    Some(_) => {}
                    None => all.ignore(ignored.clone()),
                }
            }
            if all.whole.is_none() {
                all.whole.clone_from(&report.whole);
            }
        }
        for sum in [&mut all.entries, &mut all.bytes, &mut all.duplicates] {
            *sum = copies.once(*sum);
        }
        for refused in all.refused.values_mut() {
            refused.entries = copies.once(refused.entries);
            refused.bytes = copies.once(refused.bytes);
        }
        all
    }

    fn forget_refusals(&mut self) {
        self.refused.clear();
        self.invalid.clear();
        self.ignored.clear();
        self.whole = None;
    }
}
