//! Seconds and milliseconds as the engine counts them.

/// Seconds in whole milliseconds, as the engine counts. What is below a millisecond is cut off, unless it is no more than the
/// error of the number itself.
pub(super) fn seconds_to_ms(seconds: f64) -> i64 {
    let ms = seconds * 1e3;
    let whole = ms.round();
    if (ms - whole).abs() < 1e-3 {
        whole as i64
    } else {
        ms as i64
    }
}

/// Whether seconds are too many for a duration.
pub(super) fn is_out_of_range(seconds: f64) -> bool {
    const MAX_SECONDS: f64 = 9_223_372_036.854_776;
    !(-MAX_SECONDS..=MAX_SECONDS).contains(&seconds)
}

/// Writes a duration: `1h30m`. Years and weeks only where they leave nothing: `90d`, `2w`.
pub(super) fn format_ms(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let length = std::time::Duration::from_millis(ms.unsigned_abs());
    format!("{sign}{}", lgtm_core::units::duration::format(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lgtm_core::go::parse_duration_ns;
    use proptest::prelude::*;

    #[test]
    fn seconds_are_cut_to_milliseconds() {
        for (seconds, ms) in [
            (300.0, 300_000),
            (0.0015, 1),
            (-0.0015, -1),
            (0.0004, 0),
            // 35y1ms, which floating point has not exactly.
            (1_103_760_000.001, 1_103_760_000_001),
        ] {
            assert_eq!(seconds_to_ms(seconds), ms, "{seconds}");
        }
    }

    proptest! {
        #[test]
        fn written_durations_read_the_same(ms in 0i64..9_000_000_000_000) {
            prop_assert_eq!(parse_duration_ns(&format_ms(ms)), Ok(ms as u64 * 1_000_000));
        }
    }
}
