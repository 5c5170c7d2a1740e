//! How long entries are kept.

use std::time::Duration;

use lgtm_core::model::{Labels, TimestampMs, TimestampNs};
use serde::{Deserialize, Serialize};

use super::limits::Limits;
use super::stream_selector::StreamSelector;

/// Horizons move on by so much at least: what is cut by them can be remembered for as long, and no two parts of a query see different ones for
/// long.
const MAX_STEP: Duration = Duration::from_secs(3600);
/// By so many parts of a period horizons move, where that is less.
const PARTS: u32 = 24;

/// How long entries of some streams are kept.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamRetention {
    /// Which streams.
    pub selector: StreamSelector,
    /// Of several rules for a stream the one of the highest priority counts. Default 0.
    #[serde(default)]
    pub priority: i64,
    /// How long; 0: for ever.
    #[serde(with = "lgtm_core::units::duration")]
    pub period: Duration,
}

/// Times before which a tenant's entries are not kept any more. Plain data, which can be sent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Horizons {
    /// The first one that matches counts.
    rules: Vec<(StreamSelector, TimestampNs)>,
    /// Of all other streams.
    others_ns: Option<TimestampNs>,
}

impl Horizons {
    /// Those of a tenant at a time. Costs a sort of its rules.
    pub fn of(limits: &Limits, now_ms: TimestampMs) -> Self {
        let mut rules: Vec<&StreamRetention> = limits.retention_stream.iter().collect();
        rules.sort_by_key(|r| {
            let length = r.selector.matchers().len();
            let forever = r.period.is_zero();
            (
                std::cmp::Reverse(r.priority),
                std::cmp::Reverse(length),
                forever,
                r.period,
            )
        });
        let rules = rules.into_iter().map(|r| {
            let horizon = horizon(r.period, now_ms);
            (r.selector.clone(), horizon.unwrap_or(TimestampNs::MIN))
        });
        Self {
            rules: rules.collect(),
            others_ns: horizon(limits.retention_period, now_ms),
        }
    }

    /// Those that somebody else has computed: the first rule that matches counts, then `others_ns`.
    pub fn from_rules(
        rules: Vec<(StreamSelector, TimestampNs)>,
        others_ns: Option<TimestampNs>,
    ) -> Self {
        Self { rules, others_ns }
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[(StreamSelector, TimestampNs)] {
        &self.rules
    }

    /// The horizon of streams that no rule means; `None`: they are kept for ever.
    pub fn others(&self) -> Option<TimestampNs> {
        self.others_ns
    }

    /// Whether all is kept for ever.
    pub fn is_none(&self) -> bool {
        self.others_ns.is_none() && self.rules.iter().all(|(_, t)| *t == TimestampNs::MIN)
    }

    /// Entries of a stream before this time are over. Costs a look-up per matcher.
    pub fn of_stream(&self, labels: &Labels) -> TimestampNs {
        let rule = self.rules.iter().find(|(s, _)| s.matches(labels));
        match rule {
            Some((_, horizon)) => *horizon,
            None => self.others_ns.unwrap_or(TimestampNs::MIN),
        }
    }

    /// Entries before this time are over, of whatever stream.
    pub fn earliest(&self) -> TimestampNs {
        let others = self.others_ns.unwrap_or(TimestampNs::MIN);
        let rules = self.rules.iter().map(|(_, horizon)| *horizon);
        rules.fold(others, Ord::min)
    }

    /// No entry from this time on is over, of whatever stream.
    pub fn latest(&self) -> TimestampNs {
        let others = self.others_ns.unwrap_or(TimestampNs::MIN);
        let rules = self.rules.iter().map(|(_, horizon)| *horizon);
        rules.fold(others, Ord::max)
    }

    /// All horizons, in the order of the rules: what an answer depends on that looks behind [`Horizons::latest`].
    pub fn times(&self) -> impl Iterator<Item = TimestampNs> {
        let rules = self.rules.iter().map(|(_, horizon)| *horizon);
        rules.chain(self.others_ns)
    }
}

/// `None`: for ever.
fn horizon(period: Duration, now_ms: TimestampMs) -> Option<TimestampNs> {
    let step = MAX_STEP.min(period / PARTS).as_millis().max(1);
    let step_ms = i64::try_from(step).unwrap_or(i64::MAX);
    let period_ms = i64::try_from(period.as_millis()).unwrap_or(i64::MAX);
    let over = now_ms.saturating_sub(period_ms).floor(step_ms);
    (period_ms > 0).then(|| over.to_ns())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const HOUR_NS: i64 = 3_600_000_000_000;

    fn rule(selector: &str, priority: i64, hours: u32) -> StreamRetention {
        StreamRetention {
            selector: StreamSelector::new(selector).unwrap(),
            priority,
            period: HOUR * hours,
        }
    }

    fn at_hour(hours: i64) -> TimestampMs {
        TimestampMs::new(hours * 3_600_000 + 1_234_567)
    }

    #[test]
    fn the_highest_priority_counts_then_the_longest_match_then_the_shortest_period() {
        let limits = Limits {
            retention_period: HOUR * 1000,
            retention_stream: vec![
                rule(r#"{env="dev"}"#, 1, 48),
                rule(r#"{env="dev", app="a"}"#, 1, 96),
                rule(r#"{app="a"}"#, 0, 24),
                rule(r#"{app="b"}"#, 2, 72),
                rule(r#"{app=~"b|c"}"#, 2, 80),
                rule(r#"{app="c", env="prod"}"#, 2, 0),
            ],
            ..Limits::default()
        };
        let horizons = Horizons::of(&limits, at_hour(2000));
        for (app, env, hours) in [
            ("x", "x", Some(1000)),
            ("x", "dev", Some(48)),
            ("a", "dev", Some(96)),
            ("a", "x", Some(24)),
            ("b", "dev", Some(72)),
            ("c", "dev", Some(80)),
            ("c", "prod", None),
        ] {
            let labels = Labels::from_pairs([("app", app), ("env", env)]).unwrap();
            let wanted = hours.map_or(i64::MIN, |h| (2000 - h) * HOUR_NS);
            assert_eq!(horizons.of_stream(&labels), wanted, "{app} {env}");
        }
        assert_eq!(horizons.earliest(), TimestampNs::MIN);
        assert_eq!(horizons.latest(), (2000 - 24) * HOUR_NS);
        assert!(!horizons.is_none());
    }

    #[test]
    fn without_a_period_all_is_kept() {
        let horizons = Horizons::of(&Limits::default(), at_hour(1));
        assert!(horizons.is_none());
        assert_eq!(horizons.of_stream(&Labels::empty()), TimestampNs::MIN);
        let limits = Limits {
            retention_stream: vec![rule("{}", 0, 0)],
            ..Limits::default()
        };
        assert!(Horizons::of(&limits, at_hour(1)).is_none());
    }

    #[test]
    fn short_periods_move_in_short_steps_and_nothing_goes_early() {
        for seconds in [1, 60, 3600, 86_400, 1_000_000] {
            let period = Duration::from_secs(seconds);
            let limits = Limits {
                retention_period: period,
                ..Limits::default()
            };
            let now_ms = TimestampMs::new(1_700_000_000_123);
            let horizon = Horizons::of(&limits, now_ms).earliest();
            let over_ns = now_ms.to_ns() - period.as_nanos() as i64;
            let most = (period / PARTS).min(MAX_STEP).as_nanos() as i64;
            assert!((0..=most).contains(&(over_ns - horizon)), "{seconds}");
        }
    }
}
