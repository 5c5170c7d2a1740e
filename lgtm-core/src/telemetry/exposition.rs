//! The Prometheus text format, version 0.0.4.
//!
//! One `# HELP` and one `# TYPE` line per family, then its samples. Families come in the order they are given, which from a registry
//! is that of their names, so that two scrapes differ only in their numbers.

use std::fmt::Write;

use crate::telemetry::snapshot::FamilySnapshot;

/// The `Content-Type` of what [`encode`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes families as text.
pub fn encode(families: &[FamilySnapshot]) -> String {
    let mut out = String::new();
    for family in families {
        out.push_str("# HELP ");
        out.push_str(&family.name);
        out.push(' ');
        escape(&family.help, false, &mut out);
        out.push_str("\n# TYPE ");
        out.push_str(&family.name);
        out.push(' ');
        out.push_str(family.kind.as_str());
        out.push('\n');
        for sample in &family.samples {
            out.push_str(&sample.name);
            for (i, (name, value)) in sample.labels.iter().enumerate() {
                out.push(if i == 0 { '{' } else { ',' });
                out.push_str(name);
                out.push_str("=\"");
                escape(value, true, &mut out);
                out.push('"');
            }
            if !sample.labels.is_empty() {
                out.push('}');
            }
            out.push(' ');
            out.push_str(&format_value(sample.value));
            out.push('\n');
        }
    }
    out
}

/// A number as the format writes it: `NaN`, `+Inf`, `-Inf`, else the shortest text that reads back the same.
pub(super) fn format_value(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    let mut text = String::new();
    // Very large and very small numbers would be hundreds of digits without an exponent.
    let plain = value == 0.0 || (1e-5..1e17).contains(&value.abs());
    let written = if plain {
        write!(text, "{value}")
    } else {
        write!(text, "{value:e}")
    };
    written.expect("writing to a string does not fail");
    text
}

/// Backslash and newline are escaped everywhere, the quote in label values only.
fn escape(text: &str, quotes: bool, out: &mut String) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::snapshot::{MetricKind, Sample};

    #[test]
    fn values_and_help_are_escaped_by_their_own_rules() {
        let family = FamilySnapshot {
            name: "a_total".into(),
            help: "says \"hi\" \\ and\nmore".into(),
            kind: MetricKind::Counter,
            samples: vec![Sample::new(
                "a_total",
                &[
                    ("path".into(), "C:\\x\n\"q\"".into()),
                    ("b".into(), "ä".into()),
                ],
                3.0,
            )],
        };
        assert_eq!(
            encode(&[family]),
            "# HELP a_total says \"hi\" \\\\ and\\nmore\n# TYPE a_total counter\n\
             a_total{path=\"C:\\\\x\\n\\\"q\\\"\",b=\"ä\"} 3\n"
        );
    }

    #[test]
    fn numbers_are_written_as_prometheus_reads_them() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.0025, "0.0025"),
            (-12.5, "-12.5"),
            (1e300, "1e300"),
            (5e-324, "5e-324"),
            (1e16, "10000000000000000"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(format_value(value), text);
        }
    }
}
