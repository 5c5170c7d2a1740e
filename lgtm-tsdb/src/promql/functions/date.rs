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
        let days = seconds.div_euclid(86_400);
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

/// The function of a name that takes seconds since the epoch.
pub(crate) fn date_function(name: &str) -> Option<fn(f64) -> f64> {
    // Beyond what a date can name the conversion saturates; such a year is wrong but finite.
    fn seconds(t: f64) -> i64 {
        const BOUND: f64 = 1e15;
        match t.is_nan() {
            true => i64::MIN / 1_000_000,
            false => t.clamp(-BOUND, BOUND) as i64,
        }
    }
    Some(match name {
        "day_of_month" => |t| Date::of_seconds(seconds(t)).day as f64,
        "day_of_week" => |t| Date::of_seconds(seconds(t)).weekday as f64,
        "day_of_year" => |t| Date::of_seconds(seconds(t)).day_of_year as f64,
        "days_in_month" => |t| {
            let date = Date::of_seconds(seconds(t));
            days_in_month(date.year, date.month) as f64
        },
        "hour" => |t| (seconds(t).rem_euclid(86_400) / 3600) as f64,
        "minute" => |t| (seconds(t).rem_euclid(3600) / 60) as f64,
        "month" => |t| Date::of_seconds(seconds(t)).month as f64,
        "year" => |t| Date::of_seconds(seconds(t)).year as f64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_named() {
        let date = |s| Date::of_seconds(s);
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
}
