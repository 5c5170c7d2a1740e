//! Which traces share a block.
//!
//! A query chooses blocks by their range, so that one old span would have every query of the years between look into its block. Traces that
//! are older (or further ahead) than an hour when they come therefore go into batches, and blocks, of their own days; the older they are, the more days
//! share one, so that an import of any length makes a bounded number of blocks.

use lgtm_core::codec::Reader;
use lgtm_core::codec::protobuf::{fixed64_tag, skip};
use lgtm_core::model::TimestampMs;

/// What began so long before or after it came is not of now.
const RECENT_MS: u64 = 3_600_000;
const DAY_MS: i64 = 86_400_000;
/// Windows of one length before the next ones are twice as long.
const WINDOWS_OF_A_LENGTH: u64 = 8;

/// A range of time whose traces share blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockWindow {
    /// Traces of the time in which they came.
    Recent,
    /// Others, by days since the epoch.
    Days {
        /// Which of the windows of that length.
        number: i64,
        /// Length, in days.
        days: i64,
    },
}

impl BlockWindow {
    /// The window of a trace that began at `start_ns` and came at `came_ms`.
    pub(super) fn of(start_ns: u64, came_ms: TimestampMs) -> Self {
        let start_ms = i64::try_from(start_ns / 1_000_000).unwrap_or(i64::MAX);
        let distance_ms = start_ms.abs_diff(came_ms.get());
        if distance_ms <= RECENT_MS {
            return Self::Recent;
        }
        let distance_days = distance_ms / DAY_MS as u64;
        // At most 2^48 days: 64 bits of milliseconds.
        let days = (distance_days / WINDOWS_OF_A_LENGTH)
            .next_power_of_two()
            .max(1) as i64;
        Self::Days {
            number: start_ms.div_euclid(DAY_MS).div_euclid(days),
            days,
        }
    }
}

/// When the first of some spans began, nanoseconds since the epoch; `None` when it does not say.
pub(super) fn first_start_ns(spans: &[u8]) -> Option<u64> {
    let mut r = Reader::new("spans", spans);
    r.uvarint().ok()?;
    let mut span = Reader::new("span", r.bytes().ok()?);
    while !span.is_empty() {
        match span.uvarint().ok()? {
            tag if tag == fixed64_tag(7) => return span.u64_le().ok(),
            tag => skip(&mut span, tag).ok()?,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lgtm_core::codec::protobuf::put_message;

    use super::*;
    use crate::trace::Span;

    const NOW_MS: i64 = 1_795_357_046_000;

    fn window(age_ms: i64) -> BlockWindow {
        let start_ns = (NOW_MS - age_ms) as u64 * 1_000_000;
        BlockWindow::of(start_ns, TimestampMs::new(NOW_MS))
    }

    #[test]
    fn old_traces_go_by_days_and_very_old_ones_by_longer_windows() {
        assert_eq!(window(0), BlockWindow::Recent);
        assert_eq!(window(RECENT_MS as i64), BlockWindow::Recent);
        assert_eq!(window(-(RECENT_MS as i64)), BlockWindow::Recent);
        let days = |age_days: i64| match window(age_days * DAY_MS) {
            BlockWindow::Days { days, .. } => days,
            BlockWindow::Recent => 0,
        };
        assert_eq!([days(1), days(7), days(40), days(-1)], [1, 1, 8, 1]);
        // An import of thirty years.
        let windows: BTreeSet<_> = (0..30 * 365).map(|n| window(n * DAY_MS)).collect();
        assert!((30..150).contains(&windows.len()), "{}", windows.len());
        // Whatever the time, there is a window.
        for start_ns in [0, 1, u64::MAX, i64::MAX as u64] {
            assert_ne!(
                BlockWindow::of(start_ns, TimestampMs::new(NOW_MS)),
                BlockWindow::Recent
            );
        }
    }

    #[test]
    fn the_first_span_says_when_a_trace_began() {
        let mut spans = Vec::new();
        for start_ns in [50, 40] {
            let span = Span {
                name: b"x",
                start_ns,
                ..Span::default()
            };
            put_message(&mut spans, 2, |out| span.encode(out));
        }
        assert_eq!(first_start_ns(&spans), Some(50));
        assert_eq!(first_start_ns(&[]), None);
        assert_eq!(first_start_ns(&spans[..3]), None);
    }
}
