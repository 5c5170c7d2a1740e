//! What became of a push, and what its sender is told.

use std::collections::BTreeMap;

use lgtm_core::error::first_chars;
use serde::{Deserialize, Serialize};

use crate::wire::SpanRule;

/// Characters of a message that tells why spans were refused.
const MAX_MESSAGE_CHARS: usize = 1000;

/// What became of a push. Plain data, which can be sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[must_use = "it tells what was not stored"]
pub struct PushReport {
    /// Spans stored.
    pub spans: u64,
    /// Bytes of these, as protobuf.
    pub bytes: u64,
    /// Spans refused, by rule. The rest of their request is stored.
    pub refused: BTreeMap<SpanRule, u64>,
    /// What is said of the first of each rule.
    pub messages: BTreeMap<SpanRule, String>,
}

impl PushReport {
    /// Counts spans that a rule refuses; the message is made for the first only.
    pub fn refuse(&mut self, rule: SpanRule, spans: u64, message: impl FnOnce() -> String) {
        *self.refused.entry(rule).or_default() += spans;
        self.messages.entry(rule).or_insert_with(|| {
            let message = message();
            first_chars(&message, MAX_MESSAGE_CHARS).to_owned()
        });
    }

    /// Adds what another holder says of its part of the same push.
    pub fn merge(&mut self, other: Self) {
        self.spans += other.spans;
        self.bytes += other.bytes;
        for (rule, spans) in other.refused {
            *self.refused.entry(rule).or_default() += spans;
        }
        for (rule, message) in other.messages {
            self.messages.entry(rule).or_insert(message);
        }
    }

    /// Spans that were refused, by all rules.
    pub fn refused_spans(&self) -> u64 {
        self.refused.values().sum()
    }

    /// What a partial success tells the sender, one message a line; `None` when all was stored. It is no error: a sender that is told one sends the
    /// whole request again, for ever.
    pub fn partial_success(&self) -> Option<(u64, String)> {
        if self.refused.is_empty() {
            return None;
        }
        let messages: Vec<&str> = self.messages.values().map(String::as_str).collect();
        Some((self.refused_spans(), messages.join("\n")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_parts_are_one() {
        let mut one = PushReport {
            spans: 2,
            bytes: 20,
            ..PushReport::default()
        };
        assert_eq!(one.partial_success(), None);
        one.refuse(SpanRule::TraceTooLarge, 3, || "first".into());
        one.refuse(SpanRule::TraceTooLarge, 1, || unreachable!());
        let mut other = PushReport::default();
        other.refuse(SpanRule::TraceTooLarge, 1, || "second".into());
        other.refuse(SpanRule::LiveTracesExceeded, 1, || "x".repeat(2000));
        one.merge(other);
        let (spans, message) = one.partial_success().unwrap();
        assert_eq!((spans, one.refused_spans(), one.spans), (6, 6, 2));
        assert_eq!(message, format!("{}\nfirst", "x".repeat(1000)));
    }
}
