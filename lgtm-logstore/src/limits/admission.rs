//! What of a push a tenant's limits let through: the half that needs no head.

use std::fmt;
use std::sync::Arc;

use lgtm_core::Error;
use lgtm_core::clock::Clock;
use lgtm_core::error::first_chars;
use lgtm_core::go::{format_rfc3339, parse_rfc3339_ns};
use lgtm_core::limits::{RateLimit, RateShare, TenantLimiters};
use lgtm_core::model::{TenantId, TimestampNs};

use super::limits::Limits;
use super::push_report::{PushRefusal, PushReport, PushRule};
use crate::wire::{PushBatch, PushEntry, StreamLabels, StreamView};

const MEGABYTE: f64 = (1 << 20) as f64;
/// Characters of a name or value that a message repeats.
const TOLD_CHARS: usize = 1900;

/// The entries of a push that are taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accepted {
    /// A bit for each entry of the batch that is refused; empty when all are taken.
    refused: Vec<u64>,
    /// Number of entries taken.
    pub entries: u64,
    /// Bytes of these: lines, and metadata as they were sent.
    pub bytes: u64,
}

impl Accepted {
    /// All entries of a batch.
    pub fn all(batch: &PushBatch) -> Self {
        Self {
            refused: Vec::new(),
            entries: batch.entry_count() as u64,
            bytes: batch.byte_count(),
        }
    }

    /// Whether an entry is taken, by its number in the batch.
    #[inline]
    pub fn takes(&self, entry: usize) -> bool {
        let word = self.refused.get(entry / 64);
        word.is_none_or(|w| w >> (entry % 64) & 1 == 0)
    }

    /// The entries of some streams of a batch among these, by the numbers of the streams, ascending.
    #[must_use]
    pub fn of_streams(&self, batch: &PushBatch, streams: &[u32]) -> Self {
        let mut own = none(batch);
        for stream in streams {
            let view = batch.stream(*stream as usize);
            let first = view.first_entry();
            for n in (0..view.len()).filter(|n| self.takes(first + n)) {
                own.refused[(first + n) / 64] &= !(1 << ((first + n) % 64));
                own.entries += 1;
                own.bytes += view.entry(n).byte_count();
            }
        }
        own
    }

    /// Leaves out an entry that is taken so far.
    pub(crate) fn refuse(&mut self, entry: usize, bytes: u64) {
        let word = entry / 64;
        if self.refused.len() <= word {
            self.refused.resize(word + 1, 0);
        }
        self.refused[word] |= 1 << (entry % 64);
        self.entries -= 1;
        self.bytes -= bytes;
    }
}

/// Holds pushes against limits, and counts rates.
#[derive(Debug)]
pub struct Admission {
    clock: Arc<dyn Clock>,
    rates: TenantLimiters,
    share: Option<Arc<dyn RateShare>>,
}

impl Admission {
    /// Nobody has sent anything yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            rates: TenantLimiters::new(Arc::clone(&clock)),
            clock,
            share: None,
        }
    }

    /// Sets who shares the rates of tenants: each may take an equal part.
    #[must_use]
    pub fn sharing(mut self, share: Option<Arc<dyn RateShare>>) -> Self {
        self.share = share;
        self
    }

    /// Tells what of a batch is taken; what is not stands in the report. Costs a look at each entry's time and lengths.
    ///
    /// A tenant's rate refuses a push as a whole; everything else costs the streams and entries that break a rule.
    pub fn admit(
        &self,
        tenant: &TenantId,
        batch: &PushBatch,
        limits: &Limits,
        report: &mut PushReport,
    ) -> Accepted {
        let now_ns = self.clock.now_ms().to_ns();
        let mut accepted = validate(batch, tenant, limits, now_ns, report);
        if let Some(refusal) = blocked(tenant, limits, now_ns) {
            report.count(PushRule::BlockedIngestion, accepted.entries, accepted.bytes);
            // What is wrong with the push itself is told instead.
            report.whole = refusal.filter(|_| report.invalid.is_empty());
            return none(batch);
        }
        if accepted.entries > 0
            && let Err(refusal) = self.take_rate(tenant, limits, &accepted)
        {
            report.count(PushRule::RateLimited, accepted.entries, accepted.bytes);
            report.whole = Some(refusal);
            accepted = none(batch);
        }
        accepted
    }

    fn take_rate(
        &self,
        tenant: &TenantId,
        limits: &Limits,
        accepted: &Accepted,
    ) -> Result<(), PushRefusal> {
        let sharers = self.share.as_ref().map_or(1, |s| s.distributors().max(1)) as f64;
        let limit = RateLimit {
            per_second: limits.ingestion_rate_mb * MEGABYTE / sharers,
            burst: limits.ingestion_burst_size_mb * MEGABYTE,
        };
        let bytes = accepted.bytes as f64;
        match self.rates.take(tenant, "ingestion rate", limit, bytes) {
            Ok(()) => Ok(()),
            Err(e) => Err(PushRefusal {
                status: PushRule::RateLimited.status(),
                message: format!(
                    "ingestion rate limit exceeded for user {tenant} (limit: {} bytes/sec) while attempting to ingest '{}' lines totaling '{}' bytes, reduce log volume or contact your Loki administrator to see if the limit can be increased",
                    limit.per_second as u64, accepted.entries, accepted.bytes
                ),
                retry_after: Error::retry_after(&e),
            }),
        }
    }
}

fn none(batch: &PushBatch) -> Accepted {
    Accepted {
        refused: vec![u64::MAX; batch.entry_count().div_ceil(64)],
        entries: 0,
        bytes: 0,
    }
}

/// The answer to a tenant whose pushes are blocked; `Some(None)`: they are dropped without one.
fn blocked(tenant: &TenantId, limits: &Limits, now_ns: TimestampNs) -> Option<Option<PushRefusal>> {
    let until = limits.block_ingestion_until.as_deref()?;
    let is_blocked = parse_rfc3339_ns(until).is_some_and(|until| now_ns < until);
    let status = limits.block_ingestion_status_code;
    is_blocked.then(|| {
        (status != 200).then(|| PushRefusal {
            status,
            message: format!(
                "ingestion blocked for user '{tenant}' until '{until}' with status code '{status}'"
            ),
            retry_after: None,
        })
    })
}

/// Holds streams and entries against the limits.
fn validate(
    batch: &PushBatch,
    tenant: &TenantId,
    limits: &Limits,
    now_ns: TimestampNs,
    report: &mut PushReport,
) -> Accepted {
    let mut accepted = Accepted::all(batch);
    for malformed in batch.malformed() {
        let rule = PushRule::InvalidStructuredMetadata;
        report.refuse(rule, malformed.count, malformed.bytes, || {
            malformed.message.clone()
        });
    }
    let usual = EntryRules::new(limits, now_ns);
    let backfill = EntryRules {
        oldest_ns: TimestampNs::MIN,
        ..usual
    };
    for stream in batch.streams() {
        let rules = if stream.labels().is_backfill() {
            &backfill
        } else {
            &usual
        };
        let first = stream.first_entry();
        if !stream.labels().is_internal()
            && let Err((rule, message)) = check_labels(stream.labels(), tenant, limits)
        {
            let count = stream.len() as u64;
            report.refuse(rule, count, stream.byte_count(), || message);
            for (n, entry) in stream.entries().enumerate() {
                accepted.refuse(first + n, entry.byte_count());
            }
            continue;
        }
        for (n, entry) in stream.entries().enumerate() {
            if let Some(rule) = rules.broken(&entry) {
                report.refuse(rule, 1, entry.byte_count(), || {
                    rules.message(rule, &stream, &entry)
                });
                accepted.refuse(first + n, entry.byte_count());
            }
        }
    }
    accepted
}

fn check_labels(
    labels: StreamLabels<'_>,
    tenant: &TenantId,
    limits: &Limits,
) -> Result<(), (PushRule, String)> {
    let told = |text| first_chars(text, TOLD_CHARS);
    let shown = ToldLabels(labels);
    let count = labels.chosen().count();
    if labels.as_bytes().is_empty() {
        let message = "error at least one label pair is required per stream".to_owned();
        return Err((PushRule::MissingLabels, message));
    }
    let max = limits.max_label_names_per_series;
    if max > 0 && count > max {
        let message = format!("entry for stream '{shown}' has {count} label names; limit {max}");
        return Err((PushRule::MaxLabelNamesPerSeries, message));
    }
    let is_over = |len: usize, max: usize| max > 0 && len > max;
    let mut before = None;
    for (name, value) in labels.iter() {
        if is_over(name.len(), limits.max_label_name_length) {
            let name = told(name);
            let message = format!("stream '{shown}' has label name too long: '{name}'");
            return Err((PushRule::LabelNameTooLong, message));
        }
        if is_over(value.len(), limits.max_label_value_length) {
            let value = told(value);
            let message = format!("stream '{shown}' has label value too long: '{value}'");
            return Err((PushRule::LabelValueTooLong, message));
        }
        if before.replace(name) == Some(name) {
            let message = format!("stream '{shown}' has duplicate label name: '{name}'");
            return Err((PushRule::DuplicateLabelNames, message));
        }
    }
    let is_missing = |name: &&String| !labels.iter().any(|(n, _)| n == name.as_str());
    let missing: Vec<&String> = limits.enforced_labels.iter().filter(is_missing).collect();
    if !missing.is_empty() {
        let missing: Vec<&str> = missing.iter().map(|m| m.as_str()).collect();
        let message = format!(
            "missing required labels '{}' for user '{tenant}' for stream '{shown}'",
            missing.join(",")
        );
        return Err((PushRule::MissingEnforcedLabels, message));
    }
    Ok(())
}

/// The labels of a stream as messages show them: what is wrong stands behind them, and the end of a message is cut.
struct ToldLabels<'a>(StreamLabels<'a>);

impl fmt::Display for ToldLabels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(first_chars(&self.0.to_string(), TOLD_CHARS))
    }
}

/// What each entry is held against.
#[derive(Clone, Copy)]
struct EntryRules<'a> {
    limits: &'a Limits,
    oldest_ns: TimestampNs,
    newest_ns: TimestampNs,
    max_line: usize,
    max_metadata: u32,
    max_pairs: u32,
}

impl<'a> EntryRules<'a> {
    fn new(limits: &'a Limits, now_ns: TimestampNs) -> Self {
        let ns = |d: std::time::Duration| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX);
        let or_any = |max: u64| match u32::try_from(max) {
            Ok(0) | Err(_) => u32::MAX,
            Ok(max) => max,
        };
        Self {
            limits,
            oldest_ns: if limits.reject_old_samples {
                now_ns.saturating_sub(ns(limits.reject_old_samples_max_age))
            } else {
                TimestampNs::MIN
            },
            newest_ns: now_ns.saturating_add(ns(limits.creation_grace_period)),
            max_line: match limits.max_line_size.as_usize() {
                0 => usize::MAX,
                max => max,
            },
            max_metadata: or_any(limits.max_structured_metadata_size.as_u64()),
            max_pairs: or_any(u64::from(limits.max_structured_metadata_entries_count)),
        }
    }

    #[inline]
    fn broken(&self, entry: &PushEntry<'_>) -> Option<PushRule> {
        if entry.t_ns < self.oldest_ns {
            return Some(PushRule::GreaterThanMaxSampleAge);
        }
        if entry.t_ns > self.newest_ns {
            return Some(PushRule::TooFarInFuture);
        }
        if entry.line.len() > self.max_line {
            return Some(PushRule::LineTooLong);
        }
        if entry.sent.count == 0 {
            return None;
        }
        if !self.limits.allow_structured_metadata {
            return Some(PushRule::DisallowedStructuredMetadata);
        }
        if entry.sent.bytes > self.max_metadata {
            return Some(PushRule::StructuredMetadataTooLarge);
        }
        (entry.sent.count > self.max_pairs).then_some(PushRule::StructuredMetadataTooMany)
    }

    fn message(&self, rule: PushRule, stream: &StreamView<'_>, entry: &PushEntry<'_>) -> String {
        let (shown, time) = (ToldLabels(stream.labels()), format_rfc3339(entry.t_ns));
        let increase = "or contact your Loki administrator to increase it";
        match rule {
            PushRule::GreaterThanMaxSampleAge => format!(
                "entry for stream '{shown}' has timestamp too old: {time}, oldest acceptable timestamp is: {}",
                format_rfc3339(self.oldest_ns)
            ),
            PushRule::TooFarInFuture => {
                format!("entry for stream '{shown}' has timestamp too new: {time}")
            }
            PushRule::LineTooLong => format!(
                "max entry size '{}' bytes exceeded for stream '{shown}' while adding an entry with length '{}' bytes",
                self.max_line,
                entry.line.len()
            ),
            PushRule::StructuredMetadataTooLarge => format!(
                "stream '{shown}' has structured metadata too large: '{}' bytes, limit: '{}' bytes. Please see `limits_config.max_structured_metadata_size` {increase}",
                entry.sent.bytes, self.max_metadata
            ),
            PushRule::StructuredMetadataTooMany => format!(
                "stream '{shown}' has too many structured metadata labels: '{}', limit: '{}'. Please see `limits_config.max_structured_metadata_entries_count` {increase}",
                entry.sent.count, self.max_pairs
            ),
            _ => format!(
                "stream '{shown}' includes structured metadata, but this feature is disallowed. Please see `limits_config.allow_structured_metadata` or contact your Loki administrator to enable it"
            ),
        }
    }
}
