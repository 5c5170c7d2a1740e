//! Names and units of OpenTelemetry in the words of Prometheus.
//!
//! The rules are those of the OpenTelemetry specification's "Prometheus and OpenMetrics compatibility" page and of Prometheus' own
//! receiver: units are spelled out and appended, counters end in `_total`, ratios in `_ratio`.

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

/// The words for a unit and for what stands behind its stroke; empty where there is nothing to say.
fn unit_words(unit: &str) -> (String, String) {
    let mut parts = unit.splitn(2, '/').map(str::trim);
    let mut word = |table| match parts.next() {
        Some(u) if !u.is_empty() && !u.contains(['{', '}']) => named(table, u),
        _ => String::new(),
    };
    (word(UNITS), word(PER_UNITS))
}

/// A unit in characters that a classic name can hold.
fn cleaned(unit: &str) -> String {
    words(unit, |c| c.is_ascii_alphanumeric() || c == ':').join("_")
}

fn words(text: &str, keep: impl Fn(char) -> bool) -> Vec<&str> {
    text.split(|c| !keep(c)).filter(|w| !w.is_empty()).collect()
}

/// The unit as metadata tells it, e.g. `seconds` or `bytes_per_second`.
pub(super) fn unit_name(unit: &str) -> String {
    let (main, per) = unit_words(unit);
    let (main, per) = (cleaned(&main), cleaned(&per));
    match (main.is_empty(), per.is_empty()) {
        (_, true) => main,
        (true, false) => format!("per_{per}"),
        (false, false) => format!("{main}_per_{per}"),
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
        match out.is_empty() || out.bytes().all(|b| b == b'_') {
            true => Err(format!(
                "metric name {name:?} becomes {out:?}, which is no name"
            )),
            false => Ok(out),
        }
    }

    /// Appends the name of a label to `out`.
    pub(super) fn push_label_name(self, name: &str, out: &mut String) {
        let classic = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let plain = !self.escapes()
            || name.bytes().all(classic)
                && !name.starts_with(|c: char| c.is_ascii_digit())
                && !name.contains("__");
        // `__name__`-like names are reserved for those who know what they do.
        if plain || name.len() > 4 && name.starts_with("__") && name.ends_with("__") {
            out.push_str(name);
            return;
        }
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            out.push_str("key_");
        }
        let mut last = ' ';
        for c in name.chars() {
            let c = match c.is_ascii_alphanumeric() {
                true => c,
                false => '_',
            };
            if c != '_' || last != '_' {
                out.push(c);
            }
            last = c;
        }
    }
}

/// Escaped, with suffixes.
fn classic(name: &str, unit: &str, suffix: Suffix) -> String {
    let mut tokens: Vec<String> = words(name, |c| c.is_ascii_alphanumeric() || c == ':')
        .into_iter()
        .map(str::to_owned)
        .collect();
    if tokens.is_empty() {
        return String::new();
    }
    let (main, per) = unit_words(unit);
    let (main, per) = (cleaned(&main), cleaned(&per));
    let has = |tokens: &[String], word: &str| tokens.iter().any(|t| t == word);
    let wants_per = !per.is_empty() && !has(&tokens, &per);
    if !main.is_empty() && !has(&tokens, &main) {
        tokens.push(main);
    }
    if wants_per {
        tokens.extend(["per".to_owned(), per]);
    }
    let last = match suffix {
        Suffix::Total => "total",
        Suffix::Gauge if unit == "1" => "ratio",
        _ => "",
    };
    if !last.is_empty() {
        tokens.retain(|t| t != last);
        tokens.push(last.to_owned());
    }
    let joined = tokens.join("_");
    match joined.starts_with(|c: char| c.is_ascii_digit()) {
        true => format!("_{joined}"),
        false => joined,
    }
}

/// Escaped only: every run of foreign characters becomes one `_`, underscores that were there stay.
fn escaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 1);
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        out.push('_');
    }
    let mut foreign = false;
    for c in name.chars() {
        let keep = c.is_ascii_alphanumeric() || matches!(c, ':' | '_');
        match keep {
            true => out.push(c),
            false if !foreign => out.push('_'),
            false => {}
        }
        foreign = !keep;
    }
    out
}

/// Not escaped, with suffixes; one that the name has already is not said twice.
fn suffixed(name: &str, unit: &str, suffix: Suffix) -> String {
    let (main, per) = unit_words(unit);
    let mut tail = Vec::new();
    if !main.is_empty() {
        tail.push(main);
    }
    if !per.is_empty() {
        tail.push(format!("per_{per}"));
    }
    match suffix {
        Suffix::Total => tail.push("total".to_owned()),
        Suffix::Gauge if unit == "1" => tail.push("ratio".to_owned()),
        _ => {}
    }
    let mut stem = name;
    for word in tail.iter().rev() {
        let cut = stem.strip_suffix(word.as_str());
        if let Some(cut) = cut.and_then(|s| s.strip_suffix(['_', '.'])) {
            stem = cut;
        }
    }
    let mut out = stem.to_owned();
    for word in tail {
        out.push('_');
        out.push_str(&word);
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
            (("rate_per_second", "By/s", gauge), "rate_per_second_bytes"),
            (("speed", "m/s", gauge), "speed_meters_per_second"),
            (("cpu.utilization", "1", gauge), "cpu_utilization_ratio"),
            (("cpu.utilization", "1", total), "cpu_utilization_total"),
            (("requests", "{request}", total), "requests_total"),
            (("requests", "{request}/s", gauge), "requests_per_second"),
            (("__weird..name__", "foo-bar", none), "weird_name_foo_bar"),
            (("1st.metric", "", none), "_1st_metric"),
            (("a:b", "%", gauge), "a:b_percent"),
            (("temp", "Cel", gauge), "temp_celsius"),
        ];
        for ((n, u, s), wanted) in cases {
            assert_eq!(name(n, u, s), wanted, "{n} {u}");
        }
        assert!(
            UnderscoreEscapingWithSuffixes
                .metric_name("..", "s", none)
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
            with(NoUTF8EscapingWithSuffixes, "a.b", "s"),
            "a.b_seconds_total"
        );
        assert_eq!(
            with(NoUTF8EscapingWithSuffixes, "a.seconds_total", "s"),
            "a_seconds_total"
        );
        assert_eq!(with(NoTranslation, "a.b", "s"), "a.b");
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
            ("a..b", "a_b"),
            ("a__b", "a_b"),
            ("1a", "key_1a"),
            ("__name__", "__name__"),
            ("_private", "_private"),
            ("é", "_"),
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
        ] {
            assert_eq!(unit_name(unit), wanted);
        }
    }
}
