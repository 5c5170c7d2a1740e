//! Names and units of OpenTelemetry in the words of Prometheus.
//!
//! The rules are those of the OpenTelemetry specification's "Prometheus and OpenMetrics compatibility" page as `otlptranslator` 1.0 has
//! them, which Prometheus and Mimir use: units are spelled out and appended, counters end in `_total`, ratios in `_ratio`.

use serde::{Deserialize, Serialize};

/// How names are translated. The names of the strategies are Prometheus' (`otlp.translation_strategy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum TranslationStrategy {
    /// What Prometheus' classic names cannot hold becomes `_`; units and types are appended.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// What Prometheus' classic names cannot hold becomes `_`; nothing is appended.
    UnderscoreEscapingWithoutSuffixes,
    /// Names stay as they are; units and types are appended.
    NoUTF8EscapingWithSuffixes,
    /// Names stay as they are.
    NoTranslation,
}

/// What of a metric decides its suffixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suffix {
    /// A monotonic sum.
    Total,
    /// A gauge.
    Gauge,
    /// Anything else.
    None,
}

/// Units that have a name of their own.
const UNITS: &[(&str, &str)] = &[
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
];

/// Units behind the stroke.
const PER_UNITS: &[(&str, &str)] = &[
    ("s", "second"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

fn named(table: &[(&'static str, &'static str)], unit: &str) -> String {
    let known = table.iter().find(|(short, _)| *short == unit);
    known.map_or(unit, |(_, long)| long).to_owned()
}

/// What is said of a unit in a name: its own word, and `per_` with that behind its stroke; empty where there is nothing to say.
fn unit_words(unit: &str) -> (String, String) {
    let mut parts = unit.splitn(2, '/').map(str::trim);
    let mut word = |table| match parts.next() {
        Some(u) if !u.is_empty() && !u.contains(['{', '}']) => named(table, u),
        _ => String::new(),
    };
    let (main, mut per) = (word(UNITS), word(PER_UNITS));
    if !per.is_empty() {
        per.insert_str(0, "per_");
    }
    (main, per)
}

/// A word of a unit in characters that a classic name can hold: other ones become `_`, several of those one, and none stands in front.
fn cleaned(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    for c in word.chars() {
        if is_classic(c) {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with('_') {
            out.push('_');
        }
    }
    out
}

/// Whether a classic name may hold it, anywhere but in front.
fn is_classic(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

fn words(text: &str, keep: impl Fn(char) -> bool) -> impl Iterator<Item = &str> {
    text.split(move |c| !keep(c)).filter(|w| !w.is_empty())
}

fn without_end<'a>(text: &'a str, end: &str) -> &'a str {
    text.strip_suffix(end).unwrap_or(text)
}

/// The name with a `_` before it if it begins with a digit.
fn not_from_digit(name: String) -> String {
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        format!("_{name}")
    } else {
        name
    }
}

impl TranslationStrategy {
    fn escapes(self) -> bool {
        matches!(
            self,
            Self::UnderscoreEscapingWithSuffixes | Self::UnderscoreEscapingWithoutSuffixes
        )
    }

    /// The metric's name.
    ///
    /// # Errors
    /// When nothing of the name is left.
    pub(super) fn metric_name(
        self,
        name: &str,
        unit: &str,
        suffix: Suffix,
    ) -> Result<String, String> {
        let out = match self {
            Self::UnderscoreEscapingWithSuffixes => classic(name, unit, suffix),
            Self::UnderscoreEscapingWithoutSuffixes => escaped(name),
            Self::NoUTF8EscapingWithSuffixes => suffixed(name, unit, suffix),
            Self::NoTranslation => name.to_owned(),
        };
        let is_lost = self.escapes() && out != name && out.bytes().all(|b| b == b'_');
        if out.is_empty() || is_lost {
            Err(format!(
                "metric name {name:?} becomes {out:?}, which is no name"
            ))
        } else {
            Ok(out)
        }
    }

    /// The unit as metadata tells it, e.g. `seconds` or `bytes_per_second`.
    pub(super) fn unit_name(self, unit: &str) -> String {
        let (mut main, mut per) = unit_words(unit);
        if self.escapes() {
            (main, per) = (cleaned(&main), cleaned(&per));
        }
        let whole = match (main.is_empty(), per.is_empty()) {
            (_, true) => main,
            (true, false) => per,
            (false, false) => format!("{main}_{per}"),
        };
        let whole = whole.strip_prefix('_').unwrap_or(&whole);
        without_end(whole, "_").to_owned()
    }

    /// Appends the name of a label to `out`; nothing if nothing of it is left, which is no label's name.
    pub(super) fn push_label_name(self, name: &str, out: &mut String) {
        let bytes = name.as_bytes();
        let is_plain = bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || *b == b'_');
        let begins_well = bytes.first().is_some_and(u8::is_ascii_alphabetic);
        if !self.escapes() || is_plain && (begins_well || name.starts_with("__")) {
            out.push_str(name);
            return;
        }
        let from = out.len();
        let mut foreign = name.chars().map(|c| !c.is_ascii_alphanumeric());
        match (foreign.next(), foreign.next()) {
            // Two underscores in front are reserved for those who know what they do.
            (Some(true), Some(true)) => {}
            (Some(true), _) => out.push_str("key"),
            (Some(false), _) if !begins_well => out.push_str("key_"),
            _ => {}
        }
        out.extend(
            name.chars()
                .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }),
        );
        let made = &out[from..];
        if made != name && made.bytes().all(|b| b == b'_') {
            out.truncate(from);
        }
    }
}

/// Escaped, with suffixes.
fn classic(name: &str, unit: &str, suffix: Suffix) -> String {
    let mut tokens: Vec<String> = words(name, is_classic).map(str::to_owned).collect();
    let (main, per) = unit_words(unit);
    let (main, per) = (cleaned(&main), cleaned(&per));
    let (mut main, mut per) = (main.as_str(), without_end(&per, "_"));
    if tokens.iter().any(|t| t == main) {
        main = "";
    }
    // Nothing was left of what stood behind the stroke.
    if per == "per" {
        per = "";
    }
    if !per.is_empty() {
        main = without_end(main, "_");
    }
    let unit_tokens = [main, per].into_iter().filter(|word| !word.is_empty());
    tokens.extend(unit_tokens.map(str::to_owned));
    let last = match suffix {
        Suffix::Total => "total",
        Suffix::Gauge if unit == "1" => "ratio",
        _ => "",
    };
    if !last.is_empty() {
        tokens.retain(|t| t != last);
        tokens.push(last.to_owned());
    }
    not_from_digit(tokens.join("_"))
}

/// Escaped only: every run of foreign characters becomes one `_`, and none at the ends; underscores that were there stay.
fn escaped(name: &str) -> String {
    let kept: Vec<&str> = words(name, |c| is_classic(c) || c == '_').collect();
    not_from_digit(kept.join("_"))
}

/// Not escaped, with suffixes; one that the name ends in already is not said twice.
fn suffixed(name: &str, unit: &str, suffix: Suffix) -> String {
    let (main, per) = unit_words(unit);
    let last = match suffix {
        Suffix::Total => "total",
        Suffix::Gauge if unit == "1" => "ratio",
        _ => "",
    };
    let mut stem = name;
    for word in [last, per.as_str()].into_iter().filter(|w| !w.is_empty()) {
        // With the character before it, whichever that is.
        let before = stem
            .strip_suffix(word)
            .and_then(|s| s.char_indices().last());
        if let Some((at, _)) = before.filter(|(at, _)| *at > 0) {
            stem = &stem[..at];
        }
    }
    let mut out = stem.to_owned();
    let main = if stem.ends_with(&main) { "" } else { &main };
    for word in [main, &per, last].into_iter().filter(|w| !w.is_empty()) {
        out.push('_');
        out.push_str(word);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::TranslationStrategy::*;
    use super::*;

    #[test]
    fn classic_names_say_unit_and_type() {
        let name = |n, u, s| UnderscoreEscapingWithSuffixes.metric_name(n, u, s).unwrap();
        let (total, gauge, none) = (Suffix::Total, Suffix::Gauge, Suffix::None);
        let cases = [
            (
                ("http.server.duration", "ms", none),
                "http_server_duration_milliseconds",
            ),
            (("system.io", "By", total), "system_io_bytes_total"),
            (
                ("system.io.total.bytes", "By", total),
                "system_io_bytes_total",
            ),
            (("rate", "By/s", gauge), "rate_bytes_per_second"),
            (
                ("rate_per_second", "By/s", gauge),
                "rate_per_second_bytes_per_second",
            ),
            (("speed", "m/s", gauge), "speed_meters_per_second"),
            (("cpu.utilization", "1", gauge), "cpu_utilization_ratio"),
            (("cpu.utilization", "1", total), "cpu_utilization_total"),
            (("requests", "{request}", total), "requests_total"),
            (("requests", "{request}/s", gauge), "requests_per_second"),
            (("__weird..name__", "foo-bar", none), "weird_name_foo_bar"),
            (("foo", "custom unit!", none), "foo_custom_unit_"),
            (
                ("foo", "custom unit!/s", none),
                "foo_custom_unit_per_second",
            ),
            (("foo", "!!x!!", total), "foo_x__total"),
            (("foo", "s/!", none), "foo_seconds"),
            (
                ("requests.per.second", "1/s", gauge),
                "requests_per_second_per_second",
            ),
            (("..", "s", none), "seconds"),
            (("1st.metric", "", none), "_1st_metric"),
            (("a:b", "%", gauge), "a:b_percent"),
            (("temp", "Cel", gauge), "temp_celsius"),
        ];
        for ((n, u, s), wanted) in cases {
            assert_eq!(name(n, u, s), wanted, "{n} {u}");
        }
        assert!(
            UnderscoreEscapingWithSuffixes
                .metric_name("..", "", none)
                .is_err()
        );
    }

    #[test]
    fn the_other_strategies_change_less() {
        let with = |s: TranslationStrategy, n, u| s.metric_name(n, u, Suffix::Total).unwrap();
        assert_eq!(
            with(UnderscoreEscapingWithoutSuffixes, "a..b__c", "s"),
            "a_b__c"
        );
        assert_eq!(
            with(UnderscoreEscapingWithoutSuffixes, ".1..b.", "s"),
            "_1_b"
        );
        for (name, unit, wanted) in [
            ("a.b", "s", "a.b_seconds_total"),
            ("a.seconds_total", "s", "a.seconds_total"),
            (
                "a.seconds.per_minute.total",
                "s/m",
                "a.seconds_per_minute_total",
            ),
            ("milliseconds", "s", "milliseconds_total"),
            ("total", "", "total_total"),
            ("a", "custom unit!", "a_custom unit!_total"),
        ] {
            assert_eq!(with(NoUTF8EscapingWithSuffixes, name, unit), wanted);
        }
        assert_eq!(with(NoTranslation, "a.b", "s"), "a.b");
        assert_eq!(with(NoTranslation, "__", "s"), "__");
    }

    #[test]
    fn labels_are_escaped_by_strategy() {
        let label = |s: TranslationStrategy, n| {
            let mut out = String::new();
            s.push_label_name(n, &mut out);
            out
        };
        let e = UnderscoreEscapingWithSuffixes;
        for (name, wanted) in [
            ("http.method", "http_method"),
            ("a..b", "a__b"),
            ("a__b", "a__b"),
            ("1a", "key_1a"),
            ("1.a", "key_1_a"),
            ("__name__", "__name__"),
            ("__a.b__", "__a_b__"),
            ("_foo", "key_foo"),
            (".foo", "key_foo"),
            ("._foo", "__foo"),
            ("__", "__"),
            ("_", "key_"),
            ("é", "key_"),
            ("é.", ""),
            ("", ""),
        ] {
            assert_eq!(label(e, name), wanted);
        }
        assert_eq!(label(NoTranslation, "http.method"), "http.method");
    }

    #[test]
    fn units_are_spelled_out_for_metadata() {
        for (unit, wanted) in [
            ("By", "bytes"),
            ("By/s", "bytes_per_second"),
            ("1", ""),
            ("{x}", ""),
            ("/s", "per_second"),
            ("a b!", "a_b"),
            ("a b!/s", "a_b__per_second"),
        ] {
            assert_eq!(UnderscoreEscapingWithSuffixes.unit_name(unit), wanted);
        }
        assert_eq!(NoTranslation.unit_name("a b!/s"), "a b!_per_second");
    }
}
