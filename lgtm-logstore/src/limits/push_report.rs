//! What became of a push, and what its sender is told.

use std::collections::BTreeMap;
use std::time::Duration;

use lgtm_core::error::first_chars;
use serde::{Deserialize, Serialize};

/// A rule for which something of a push was refused. The names are those that Loki counts discarded lines by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PushRule {
    /// The tenant sends too many bytes a second.
    RateLimited,
    /// The stream gets too many bytes a second.
    PerStreamRateLimit,
    /// The tenant has as many streams as it may have.
    StreamLimit,
    /// All tenants together have as many streams as the process may hold, or this one has its share of them.
    StreamCapacity,
    /// The process holds as many bytes as it may.
    MemoryCapacity,
    /// A line is too long.
    LineTooLong,
    /// An entry is too old.
    GreaterThanMaxSampleAge,
    /// An entry lies too far in the future.
    TooFarInFuture,
    /// An entry lies too far behind the newest of its stream.
    TooFarBehind,
    /// A stream has no labels.
    MissingLabels,
    /// A stream has too many labels.
    MaxLabelNamesPerSeries,
    /// The name of a label is too long.
    LabelNameTooLong,
    /// The value of a label is too long.
    LabelValueTooLong,
    /// A label stands twice.
    DuplicateLabelNames,
    /// A label that the tenant's streams must have is missing.
    MissingEnforcedLabels,
    /// Structured metadata are not allowed.
    DisallowedStructuredMetadata,
    /// The structured metadata of an entry are too large.
    StructuredMetadataTooLarge,
    /// An entry has too many pairs of structured metadata.
    StructuredMetadataTooMany,
    /// A name of structured metadata has no letter or digit.
    InvalidStructuredMetadata,
    /// The tenant's pushes are blocked for a time.
    BlockedIngestion,
}

impl PushRule {
    /// All rules.
    pub const ALL: [Self; 20] = [
        Self::RateLimited,
        Self::PerStreamRateLimit,
        Self::StreamLimit,
        Self::StreamCapacity,
        Self::MemoryCapacity,
        Self::LineTooLong,
        Self::GreaterThanMaxSampleAge,
        Self::TooFarInFuture,
        Self::TooFarBehind,
        Self::MissingLabels,
        Self::MaxLabelNamesPerSeries,
        Self::LabelNameTooLong,
        Self::LabelValueTooLong,
        Self::DuplicateLabelNames,
        Self::MissingEnforcedLabels,
        Self::DisallowedStructuredMetadata,
        Self::StructuredMetadataTooLarge,
        Self::StructuredMetadataTooMany,
        Self::InvalidStructuredMetadata,
        Self::BlockedIngestion,
    ];

    /// The rule of a name in metrics, if it is one.
    pub fn of_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.id() == id)
    }

    /// Its name in metrics, as in Loki.
    pub fn id(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::PerStreamRateLimit => "per_stream_rate_limit",
            Self::StreamLimit => "stream_limit",
            Self::StreamCapacity => "stream_capacity",
            Self::MemoryCapacity => "memory_capacity",
            Self::LineTooLong => "line_too_long",
            Self::GreaterThanMaxSampleAge => "greater_than_max_sample_age",
            Self::TooFarInFuture => "too_far_in_future",
            Self::TooFarBehind => "too_far_behind",
            Self::MissingLabels => "missing_labels",
            Self::MaxLabelNamesPerSeries => "max_label_names_per_series",
            Self::LabelNameTooLong => "label_name_too_long",
            Self::LabelValueTooLong => "label_value_too_long",
            Self::DuplicateLabelNames => "duplicate_label_names",
            Self::MissingEnforcedLabels => "missing_enforced_labels",
            Self::DisallowedStructuredMetadata => "disallowed_structured_metadata",
            Self::StructuredMetadataTooLarge => "structured_metadata_too_large",
            Self::StructuredMetadataTooMany => "structured_metadata_too_many",
            Self::InvalidStructuredMetadata => "invalid_structured_metadata",
            Self::BlockedIngestion => "blocked_ingestion",
        }
    }

    /// The HTTP status of a push that broke it. Senders repeat what got 429 and 503, and drop what got 400.
    pub fn status(self) -> u16 {
        match self {
            Self::RateLimited | Self::PerStreamRateLimit | Self::StreamLimit => 429,
            Self::StreamCapacity | Self::MemoryCapacity => 503,
            _ => 400,
        }
    }
}

/// How much was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Refused {
    /// Entries.
    pub entries: u64,
    /// Bytes of lines, and of metadata as they were sent.
    pub bytes: u64,
}

/// Entries of a stream that the head did not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoredEntries {
    /// The stream, as text.
    pub stream: String,
    /// The rule that the last of them broke: it decides the status.
    pub rule: PushRule,
    /// What is said of the first of them.
    pub messages: Vec<String>,
    /// How many they are.
    pub ignored: u64,
    /// Entries that came for the stream.
    pub came: u64,
}

/// What the sender is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushRefusal {
    /// The HTTP status.
    pub status: u16,
    /// The text, whose first line is the useful one: clients log no more.
    pub message: String,
    /// When to try again, where that is known.
    pub retry_after: Option<Duration>,
}

/// Different messages that an answer repeats.
const MAX_MESSAGES: usize = 10;
/// Characters of such a message, which may repeat the labels of a stream.
const MAX_MESSAGE_CHARS: usize = 4096;
/// Streams that an answer could name; it names one.
const MAX_IGNORED_STREAMS: usize = 10;

/// What became of a push. Plain data, which can be sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[must_use = "it tells what was not stored"]
pub struct PushReport {
    /// Entries stored.
    pub entries: u64,
    /// Bytes of these: lines, and metadata as they were sent.
    pub bytes: u64,
    /// Entries that were there already.
    pub duplicates: u64,
    /// What was refused, by rule.
    pub refused: BTreeMap<PushRule, Refused>,
    /// What is wrong with streams and entries themselves, each message once.
    pub invalid: Vec<(PushRule, String)>,
    /// What the head did not take, by stream.
    pub ignored: Vec<IgnoredEntries>,
    /// What refuses the push as a whole: nothing of it was stored.
    pub whole: Option<PushRefusal>,
}

impl PushReport {
    /// Counts entries that a rule refuses; the message is made only while there are few.
    pub(crate) fn refuse(
        &mut self,
        rule: PushRule,
        entries: u64,
        bytes: u64,
        message: impl FnOnce() -> String,
    ) {
        self.count(rule, entries, bytes);
        if self.invalid.len() >= MAX_MESSAGES {
            return;
        }
        let message = message();
        let message = first_chars(&message, MAX_MESSAGE_CHARS);
        if !self.invalid.iter().any(|(_, known)| known == message) {
            self.invalid.push((rule, message.to_owned()));
        }
    }

    pub(crate) fn count(&mut self, rule: PushRule, entries: u64, bytes: u64) {
        let refused = self.refused.entry(rule).or_default();
        refused.entries += entries;
        refused.bytes += bytes;
    }

    /// Notes what the head did not take of a stream.
    pub fn ignore(&mut self, ignored: IgnoredEntries) {
        // A large push is taken in pieces.
        if let Some(same) = self.ignored.iter_mut().find(|i| i.stream == ignored.stream) {
            let room = MAX_MESSAGES.saturating_sub(same.messages.len());
            let messages = ignored.messages.into_iter().take(room);
            same.messages.extend(messages);
            same.ignored += ignored.ignored;
            same.rule = ignored.rule;
            return;
        }
        if self.ignored.len() < MAX_IGNORED_STREAMS {
            self.ignored.push(ignored);
        }
    }

    /// Adds what another holder says of its part of the same push.
    pub fn merge(&mut self, other: Self) {
        self.entries += other.entries;
        self.bytes += other.bytes;
        self.duplicates += other.duplicates;
        for (rule, refused) in other.refused {
            self.count(rule, refused.entries, refused.bytes);
        }
        for (rule, message) in other.invalid {
            let is_known = self.invalid.iter().any(|(_, known)| *known == message);
            if !is_known && self.invalid.len() < MAX_MESSAGES {
                self.invalid.push((rule, message));
            }
        }
        for ignored in other.ignored {
            self.ignore(ignored);
        }
        self.whole = self.whole.take().or(other.whole);
    }

    /// Entries that were refused, by all rules.
    pub fn refused_entries(&self) -> u64 {
        self.refused.values().map(|r| r.entries).sum()
    }

    /// What the sender of `tenant` is told; `None` when all was stored, which is 204.
    ///
    /// What refuses the push as a whole is told alone; then what the head did not take of one stream; then what is wrong with streams and
    /// entries, one message a line.
    pub fn refusal(&self, tenant: &str) -> Option<PushRefusal> {
        if let Some(whole) = &self.whole {
            return Some(whole.clone());
        }
        if let Some(first) = self.ignored.first() {
            let mut message = first.messages.join(",\n");
            // A stream that could not be made is not told entry by entry.
            let is_by_entry = matches!(
                first.rule,
                PushRule::TooFarBehind | PushRule::PerStreamRateLimit
            );
            if is_by_entry {
                message.push_str(&format!(
                    ",\nuser '{tenant}', total ignored: {} out of {} for stream: {}",
                    first.ignored, first.came, first.stream
                ));
            }
            return Some(PushRefusal {
                status: first.rule.status(),
                message,
                retry_after: None,
            });
        }
        let (rule, _) = self.invalid.first()?;
        let messages: Vec<&str> = self.invalid.iter().map(|(_, m)| m.as_str()).collect();
        Some(PushRefusal {
            status: rule.status(),
            message: messages.join("\n"),
            retry_after: None,
        })
    }
}
