//! Days and hours of a time, UTC, Gregorian calendar.

/// A day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Date {
    pub(crate) year: i64,
    pub(crate) month: i64,
    pub(crate) day: i64,
    /// From 1.
    pub(crate) day_of_year: i64,
    /// From Sunday = 0.
    pub(crate) weekday: i64,
}

impl Date {
    /// The day of a time in seconds since the epoch.
    pub(crate) fn of_seconds(seconds: i64) -> Self {
        Self::of_days(seconds.div_euclid(86_400))
    }

    /// The day of a time in days since the epoch.
    fn of_days(days: i64) -> Self {
        // Years that begin in March, in eras of 400 years: leap days then stand at the end.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let before: i64 = (1..month).map(|m| days_in_month(year, m)).sum();
        Self {
            year,
            month,
            day,
            day_of_year: before + day,
            weekday: (days + 4).rem_euclid(7),
        }
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since the epoch, and seconds of the day, of a time in seconds, as Go has them: seconds become an integer as on x86-64, where what
/// does not fit is the least integer, and count modulo 2^64 from the beginning of the year -292277022399.
fn days_and_seconds(t: f64) -> (i64, i64) {
    const FIRST: i128 = -9_223_372_028_715_321_600;
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&t);
    let seconds = if fits { t as i64 } else { i64::MIN };
    let seconds = (i128::from(seconds) - FIRST).rem_euclid(1 << 64) + FIRST;
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Two powers of 64 bits over 86,400 fit by far.
    (days as i64, of_day as i64)
}

/// The function of a name that takes seconds since the epoch.
pub(crate) fn date_function(name: &str) -> Option<fn(f64) -> f64> {
    fn date(t: f64) -> Date {
        Date::of_days(days_and_seconds(t).0)
    }
    Some(match name {
        "day_of_month" => |t| date(t).day as f64,
        "day_of_week" => |t| date(t).weekday as f64,
        "day_of_year" => |t| date(t).day_of_year as f64,
        "days_in_month" => |t| {
            let date = date(t);
            days_in_month(date.year, date.month) as f64
        },
        "hour" => |t| (days_and_seconds(t).1 / 3600) as f64,
        "minute" => |t| (days_and_seconds(t).1 % 3600 / 60) as f64,
        "month" => |t| date(t).month as f64,
        "year" => |t| date(t).year as f64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_named() {
        let date = Date::of_seconds;
        let d = date(0);
        assert_eq!(
            (d.year, d.month, d.day, d.day_of_year, d.weekday),
            (1970, 1, 1, 1, 4)
        );
        let d = date(951_782_400);
        assert_eq!((d.year, d.month, d.day, d.day_of_year), (2000, 2, 29, 60));
        let d = date(-1);
        assert_eq!(
            (d.year, d.month, d.day, d.day_of_year, d.weekday),
            (1969, 12, 31, 365, 3)
        );
        assert_eq!(date_function("days_in_month").unwrap()(951_782_400.0), 29.0);
        assert!(date_function("rate").is_none());
    }

    #[test]
    fn times_beyond_all_calendars_are_those_of_go() {
        // Values of Prometheus 2.42 on x86-64.
        for (name, t, wanted) in [
            ("hour", 1_700_000_000_000_000.0, 22.0),
            ("year", 1_700_000_000_000_000_000.0, 53_870_857_431.0),
            ("day_of_month", 1e18, 23.0),
            ("year", 9.2e18, 291_536_396_232.0),
            ("day_of_week", 9.2e18, 5.0),
            ("year", -9.2e18, -291_536_392_293.0),
            ("hour", -9.2e18, 12.0),
            ("day_of_year", -9.2e18, 123.0),
            ("month", -5e18, 12.0),
            ("days_in_month", -5e18, 31.0),
            ("year", f64::NAN, 292_277_026_596.0),
            ("year", 1e19, 292_277_026_596.0),
            ("year", -1e19, 292_277_026_596.0),
            ("minute", f64::INFINITY, 30.0),
            ("hour", -0.5, 0.0),
        ] {
            let found = date_function(name).unwrap()(t);
            assert_eq!(found, wanted, "{name}({t})");
        }
    }
}
