//! Points in time, and Go's layouts: `2006-01-02T15:04:05Z07:00`.
//! Source: the documentation of Go's package `time`.

use std::rc::Rc;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use super::call::Arguments;
use super::value::Value;

type Result<T = Value> = std::result::Result<T, String>;

/// A point in time and the zone that it is shown in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Moment {
    at: Timestamp,
    offset: Offset,
    zone: Rc<str>,
}

/// Midnight of the first of January of the year 1: Go's zero time.
const ZERO_SECONDS: i64 = -62_135_596_800;

impl Moment {
    fn utc(at: Timestamp) -> Self {
        Self {
            at,
            offset: Offset::UTC,
            zone: Rc::from("UTC"),
        }
    }

    fn zero() -> Self {
        Self::utc(Timestamp::new(ZERO_SECONDS, 0).unwrap_or(Timestamp::UNIX_EPOCH))
    }

    /// So many nanoseconds after 1970, in UTC.
    pub(super) fn of_ns(ns: i64) -> Self {
        let at = Timestamp::from_nanosecond(i128::from(ns));
        Self::utc(at.unwrap_or(Timestamp::UNIX_EPOCH))
    }

    fn local(&self) -> DateTime {
        self.offset.to_datetime(self.at)
    }

    /// As Go prints it.
    pub(super) fn shown(&self) -> String {
        self.formatted("2006-01-02 15:04:05.999999999 -0700 MST")
    }

    fn formatted(&self, layout: &str) -> String {
        let t = self.local();
        let mut out = String::new();
        for piece in layout_pieces(layout) {
            piece.write(&mut out, self, t);
        }
        out
    }
}

/// A piece of a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LayoutPiece<'a> {
    Text(&'a str),
    LongMonth,
    Month,
    /// A number: which, how many digits at least, filled with what.
    Number(TimeField, usize, char),
    LongWeekday,
    Weekday,
    Half(bool),
    ZoneName,
    /// Whether UTC is `Z`, whether minutes and seconds follow, whether colons do.
    Offset {
        z: bool,
        parts: usize,
        colons: bool,
    },
    /// Digits behind the second: the sign before them, how many, whether zeros at the end are left out.
    Fraction(char, usize, bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TimeField {
    Year,
    ShortYear,
    Month,
    Day,
    YearDay,
    Hour,
    Hour12,
    Minute,
    Second,
}

/// Texts with a meaning, longer ones first.
const MARKS: [(&str, LayoutPiece<'static>); 35] = {
    use LayoutPiece::{Half, LongMonth, LongWeekday, Month, Number, Offset, Weekday, ZoneName};
    const fn offset(z: bool, parts: usize, colons: bool) -> LayoutPiece<'static> {
        Offset { z, parts, colons }
    }
    [
        ("January", LongMonth),
        ("Jan", Month),
        ("Monday", LongWeekday),
        ("Mon", Weekday),
        ("MST", ZoneName),
        ("2006", Number(TimeField::Year, 4, '0')),
        ("002", Number(TimeField::YearDay, 3, '0')),
        ("__2", Number(TimeField::YearDay, 3, ' ')),
        ("01", Number(TimeField::Month, 2, '0')),
        ("02", Number(TimeField::Day, 2, '0')),
        ("03", Number(TimeField::Hour12, 2, '0')),
        ("04", Number(TimeField::Minute, 2, '0')),
        ("05", Number(TimeField::Second, 2, '0')),
        ("06", Number(TimeField::ShortYear, 2, '0')),
        ("15", Number(TimeField::Hour, 2, '0')),
        ("_2", Number(TimeField::Day, 2, ' ')),
        ("1", Number(TimeField::Month, 1, '0')),
        ("2", Number(TimeField::Day, 1, '0')),
        ("3", Number(TimeField::Hour12, 1, '0')),
        ("4", Number(TimeField::Minute, 1, '0')),
        ("5", Number(TimeField::Second, 1, '0')),
        ("PM", Half(true)),
        ("pm", Half(false)),
        ("-07:00:00", offset(false, 3, true)),
        ("-070000", offset(false, 3, false)),
        ("-07:00", offset(false, 2, true)),
        ("-0700", offset(false, 2, false)),
        ("-07", offset(false, 1, false)),
        ("Z07:00:00", offset(true, 3, true)),
        ("Z070000", offset(true, 3, false)),
        ("Z07:00", offset(true, 2, true)),
        ("Z0700", offset(true, 2, false)),
        ("Z07", offset(true, 1, false)),
        ("_2006", LayoutPiece::Text("_")),
        ("", LayoutPiece::Text("")),
    ]
};

fn layout_pieces(layout: &str) -> Vec<LayoutPiece<'_>> {
    let mut out = Vec::new();
    let mut text_start = 0;
    let mut at = 0;
    while at < layout.len() {
        let rest = &layout[at..];
        let found = fraction(rest).or_else(|| {
            let is_cut_word = |mark: &str| {
                // `Jan` and `Mon` are no marks inside of a word.
                matches!(mark, "Jan" | "Mon")
                    && rest[mark.len()..].starts_with(|c: char| c.is_ascii_lowercase())
            };
            let marks = MARKS.iter().filter(|(m, _)| !m.is_empty());
            let mut marks = marks.filter(|(m, _)| rest.starts_with(m) && !is_cut_word(m));
            if rest.starts_with("_2006") {
                Some((1, LayoutPiece::Text("_")))
            } else {
                marks.next().map(|(m, piece)| (m.len(), *piece))
            }
        });
        let Some((len, piece)) = found else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        if text_start < at {
            out.push(LayoutPiece::Text(&layout[text_start..at]));
        }
        out.push(piece);
        at += len;
        text_start = at;
    }
    if text_start < at {
        out.push(LayoutPiece::Text(&layout[text_start..]));
    }
    out
}

/// `.000` or `,999`, if no other digit follows.
fn fraction(text: &str) -> Option<(usize, LayoutPiece<'_>)> {
    let sign = text.chars().next().filter(|c| matches!(c, '.' | ','))?;
    let digit = text[1..]
        .chars()
        .next()
        .filter(|c| matches!(c, '0' | '9'))?;
    let count = text[1..].chars().take_while(|c| *c == digit).count();
    let follows = text[1 + count..].starts_with(|c: char| c.is_ascii_digit());
    (!follows && count <= 9)
        .then_some((1 + count, LayoutPiece::Fraction(sign, count, digit == '9')))
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

fn weekday_name(t: DateTime) -> &'static str {
    WEEKDAYS[usize::try_from(t.weekday().to_monday_zero_offset()).unwrap_or(0) % 7]
}

fn month_name(t: DateTime) -> &'static str {
    MONTHS[usize::try_from(t.month() - 1).unwrap_or(0) % 12]
}

impl LayoutPiece<'_> {
    fn write(self, out: &mut String, moment: &Moment, t: DateTime) {
        match self {
            Self::Text(text) => out.push_str(text),
            Self::LongMonth => out.push_str(month_name(t)),
            Self::Month => out.push_str(&month_name(t)[..3]),
            Self::LongWeekday => out.push_str(weekday_name(t)),
            Self::Weekday => out.push_str(&weekday_name(t)[..3]),
            Self::Half(upper) => out.push_str(match (t.hour() >= 12, upper) {
                (true, true) => "PM",
                (false, true) => "AM",
                (true, false) => "pm",
                (false, false) => "am",
            }),
            Self::ZoneName => out.push_str(&moment.zone),
            Self::Number(field, width, fill) => {
                let value = match field {
                    TimeField::Year => i64::from(t.year()),
                    TimeField::ShortYear => i64::from(t.year().rem_euclid(100)),
                    TimeField::Month => i64::from(t.month()),
                    TimeField::Day => i64::from(t.day()),
                    TimeField::YearDay => i64::from(t.day_of_year()),
                    TimeField::Hour => i64::from(t.hour()),
                    TimeField::Hour12 => match t.hour() % 12 {
                        0 => 12,
                        hour => i64::from(hour),
                    },
                    TimeField::Minute => i64::from(t.minute()),
                    TimeField::Second => i64::from(t.second()),
                };
                let digits = value.to_string();
                out.extend(std::iter::repeat_n(
                    fill,
                    width.saturating_sub(digits.len()),
                ));
                out.push_str(&digits);
            }
            Self::Offset { z, parts, colons } => {
                let seconds = moment.offset.seconds();
                if z && seconds == 0 {
                    out.push('Z');
                    return;
                }
                out.push(if seconds < 0 { '-' } else { '+' });
                let s = seconds.unsigned_abs();
                for (n, part) in [s / 3600, s / 60 % 60, s % 60]
                    .into_iter()
                    .take(parts)
                    .enumerate()
                {
                    if n > 0 && colons {
                        out.push(':');
                    }
                    out.push_str(&format!("{part:02}"));
                }
            }
            Self::Fraction(sign, count, trims) => {
                let digits = format!("{:09}", t.subsec_nanosecond());
                let mut digits = &digits[..count];
                if trims {
                    digits = digits.trim_end_matches('0');
                }
                if !digits.is_empty() {
                    out.push(sign);
                    out.push_str(digits);
                }
            }
        }
    }
}

/// What was read of a time.
#[derive(Debug)]
struct ReadTime {
    year: i16,
    month: i8,
    day: i8,
    hour: i8,
    minute: i8,
    second: i8,
    nanosecond: i32,
    afternoon: Option<bool>,
    offset: Option<Offset>,
}

/// Reads a time by its layout; `None` if it does not follow it.
fn read_time(layout: &str, text: &str, zone: &TimeZone) -> Option<Moment> {
    let mut read = ReadTime {
        year: 1,
        month: 1,
        day: 1,
        hour: 0,
        minute: 0,
        second: 0,
        nanosecond: 0,
        afternoon: None,
        offset: None,
    };
    let mut rest = text;
    for piece in layout_pieces(layout) {
        rest = piece.read(rest, &mut read)?;
    }
    if !rest.is_empty() {
        return None;
    }
    match read.afternoon {
        Some(true) if read.hour < 12 => read.hour += 12,
        Some(false) if read.hour == 12 => read.hour = 0,
        _ => {}
    }
    let civil = DateTime::new(
        read.year,
        read.month,
        read.day,
        read.hour,
        read.minute,
        read.second,
        read.nanosecond,
    )
    .ok()?;
    if let Some(offset) = read.offset {
        let at = offset.to_timestamp(civil).ok()?;
        let zone = if offset == Offset::UTC { "UTC" } else { "" };
        return Some(Moment {
            at,
            offset,
            zone: zone.into(),
        });
    }
    let at = zone.to_timestamp(civil).ok()?;
    let info = zone.to_offset_info(at);
    Some(Moment {
        at,
        offset: info.offset(),
        zone: info.abbreviation().into(),
    })
}

/// So many digits from the start of a text, and what follows.
fn take_digits(text: &str, least: usize, most: usize) -> Option<(i64, &str)> {
    let count = text
        .bytes()
        .take(most)
        .take_while(u8::is_ascii_digit)
        .count();
    (count >= least)
        .then(|| text.split_at(count))
        .and_then(|(d, rest)| Some((d.parse().ok()?, rest)))
}

fn take_name<'t>(text: &'t str, names: &[&str], len: Option<usize>) -> Option<(usize, &'t str)> {
    names.iter().enumerate().find_map(|(n, name)| {
        let name = &name[..len.unwrap_or(name.len())];
        let head = text.get(..name.len())?;
        head.eq_ignore_ascii_case(name)
            .then(|| (n, &text[name.len()..]))
    })
}

impl LayoutPiece<'_> {
    fn read<'t>(self, text: &'t str, read: &mut ReadTime) -> Option<&'t str> {
        match self {
            Self::Text(literal) => text.strip_prefix(literal),
            Self::LongMonth | Self::Month => {
                let len = (self == Self::Month).then_some(3);
                let (month, rest) = take_name(text, &MONTHS, len)?;
                read.month = i8::try_from(month + 1).ok()?;
                Some(rest)
            }
            Self::LongWeekday => take_name(text, &WEEKDAYS, None).map(|(_, rest)| rest),
            Self::Weekday => take_name(text, &WEEKDAYS, Some(3)).map(|(_, rest)| rest),
            Self::Half(_) => {
                let (half, rest) = take_name(text, &["am", "pm"], None)?;
                read.afternoon = Some(half == 1);
                Some(rest)
            }
            Self::ZoneName => {
                let len = text.bytes().take_while(u8::is_ascii_uppercase).count();
                if text.starts_with("UTC") {
                    read.offset = Some(Offset::UTC);
                }
                (3..=5).contains(&len).then(|| &text[len..])
            }
            Self::Number(field, width, fill) => {
                let text = if fill == ' ' {
                    text.trim_start_matches(' ')
                } else {
                    text
                };
                let (least, most) = match (field, width, fill) {
                    (TimeField::Year, ..) => (4, 4),
                    (TimeField::ShortYear, ..) => (2, 2),
                    (TimeField::YearDay, ..) => (1, 3),
                    (_, 2, '0') => (2, 2),
                    _ => (1, 2),
                };
                let (value, rest) = take_digits(text, least, most)?;
                let small = i8::try_from(value % 128).ok()?;
                match field {
                    TimeField::Year => read.year = i16::try_from(value).ok()?,
                    TimeField::ShortYear => {
                        let year = if value >= 69 {
                            1900 + value
                        } else {
                            2000 + value
                        };
                        read.year = i16::try_from(year).ok()?;
                    }
                    TimeField::Month => read.month = small,
                    TimeField::Day => read.day = small,
                    TimeField::YearDay => {}
                    TimeField::Hour | TimeField::Hour12 => read.hour = small,
                    TimeField::Minute => read.minute = small,
                    TimeField::Second => {
                        read.second = small;
                        // Digits behind a second are read even where the layout has none.
                        return Some(take_fraction(rest, read).unwrap_or(rest));
                    }
                }
                Some(rest)
            }
            Self::Offset { z, parts, colons } => {
                if z && let Some(rest) = text.strip_prefix('Z') {
                    read.offset = Some(Offset::UTC);
                    return Some(rest);
                }
                let negative = match text.as_bytes().first()? {
                    b'-' => true,
                    b'+' => false,
                    _ => return None,
                };
                let mut rest = &text[1..];
                let mut seconds = 0;
                for n in 0..parts {
                    if n > 0 && colons {
                        rest = rest.strip_prefix(':')?;
                    }
                    let (value, tail) = take_digits(rest, 2, 2)?;
                    seconds += value * [3600, 60, 1][n];
                    rest = tail;
                }
                let seconds = i32::try_from(seconds).ok()?;
                let seconds = if negative { -seconds } else { seconds };
                read.offset = Some(Offset::from_seconds(seconds).ok()?);
                Some(rest)
            }
            // The second has read it.
            Self::Fraction(..) => Some(text),
        }
    }
}

fn take_fraction<'t>(text: &'t str, read: &mut ReadTime) -> Option<&'t str> {
    let digits = text.strip_prefix(['.', ','])?;
    let count = digits.bytes().take_while(u8::is_ascii_digit).count();
    if count == 0 {
        return None;
    }
    let padded = format!("{:0<9}", &digits[..count.min(9)]);
    read.nanosecond = padded.parse().ok()?;
    Some(&digits[count..])
}

fn moment(a: &mut Arguments<'_, '_>) -> Result<Moment> {
    match a.any() {
        Value::Time(t) => Ok(t),
        other => Err(format!(
            "wrong type for value; expected time.Time; got {}",
            other.kind()
        )),
    }
}

/// `date layout time`
pub(super) fn date(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(2)?;
    let layout = a.text()?;
    let t = match a.any() {
        Value::Time(t) => t,
        Value::Int(seconds) => Moment::of_ns(seconds.saturating_mul(1_000_000_000)),
        _ => Moment::of_ns(a.fields().now_ns().get()),
    };
    Ok(Value::text(t.formatted(&layout)))
}

/// `toDate layout text`: the zero time if it does not follow the layout.
pub(super) fn to_date(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(2)?;
    let (layout, text) = (a.text()?, a.text()?);
    let read = read_time(&layout, &text, &TimeZone::UTC);
    Ok(Value::Time(read.unwrap_or_else(Moment::zero)))
}

/// `toDateInZone layout zone text`
pub(super) fn to_date_in_zone(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(3)?;
    let (layout, zone, text) = (a.text()?, a.text()?, a.text()?);
    let zone = TimeZone::get(&zone).unwrap_or(TimeZone::UTC);
    let read = read_time(&layout, &text, &zone);
    Ok(Value::Time(read.unwrap_or_else(Moment::zero)))
}

pub(super) fn unix_epoch(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(1)?;
    Ok(Value::text(moment(a)?.at.as_second().to_string()))
}

pub(super) fn unix_epoch_millis(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(1)?;
    Ok(Value::text(moment(a)?.at.as_millisecond().to_string()))
}

pub(super) fn unix_epoch_nanos(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(1)?;
    Ok(Value::text(moment(a)?.at.as_nanosecond().to_string()))
}

/// Reads a count since 1970; how many digits it has tells its unit.
pub(super) fn unix_to_time(a: &mut Arguments<'_, '_>) -> Result {
    a.exactly(1)?;
    let text = a.text()?;
    let count: i64 = text.parse().map_err(|_| {
        format!("unable to parse time '{text}': strconv.ParseInt: parsing {text:?}: invalid syntax")
    })?;
    let unit_ns = match text.len() {
        5 => 86_400_000_000_000,
        10 => 1_000_000_000,
        13 => 1_000_000,
        16 => 1_000,
        19 => 1,
        _ => {
            return Err(format!(
                "unable to parse time '{text}': unknown epoch format"
            ));
        }
    };
    Ok(Value::Time(Moment::of_ns(count.saturating_mul(unit_ns))))
}
