//! Prometheus' text format, 0.0.4, and the same values as samples.

use std::fmt::Write;

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
struct Value {
    labels: Vec<(&'static str, String)>,
    value: f64,
}

/// One metric with all its values.
#[derive(Debug, Clone, PartialEq)]
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricKind,
    values: Vec<Value>,
}

/// Gathers the values of one moment. Components write into it when it is asked for; nothing is kept between two scrapes.
#[derive(Debug, Clone, Default)]
pub struct Exposition {
    families: Vec<Family>,
}

impl Exposition {
    /// Adds a value. A metric may be given several times with other labels; `help` and kind are those of the first.
    pub fn add(
        &mut self,
        kind: MetricKind,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: f64,
    ) {
        let labels = labels.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
        let value = Value { labels, value };
        match self.families.iter_mut().find(|f| f.name == name) {
            Some(family) => family.values.push(value),
            None => self.families.push(Family {
                name,
                help,
                kind,
                values: vec![value],
            }),
        }
    }

    /// Adds a value that only goes up.
    pub fn counter(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.add(MetricKind::Counter, name, help, &[], value);
    }

    /// Adds a value that goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.add(MetricKind::Gauge, name, help, &[], value);
    }

    /// Every value: metric name, labels, value.
    pub fn samples(&self) -> impl Iterator<Item = (&'static str, &[(&'static str, String)], f64)> {
        self.families.iter().flat_map(|f| {
            f.values
                .iter()
                .map(|v| (f.name, v.labels.as_slice(), v.value))
        })
    }

    /// The text format; metrics in order of name.
    pub fn encode(&self) -> String {
        let mut families: Vec<&Family> = self.families.iter().collect();
        families.sort_by_key(|f| f.name);
        let mut out = String::new();
        for f in families {
            let kind = match f.kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
            };
            let help = f.help.replace('\\', "\\\\").replace('\n', "\\n");
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# HELP {} {help}\n# TYPE {} {kind}", f.name, f.name);
            for v in &f.values {
                out.push_str(f.name);
                for (i, (name, value)) in v.labels.iter().enumerate() {
                    let value = value
                        .replace('\\', "\\\\")
                        .replace('"', "\\\"")
                        .replace('\n', "\\n");
                    let _ = write!(out, "{}{name}=\"{value}\"", if i == 0 { '{' } else { ',' });
                }
                out.push_str(if v.labels.is_empty() { " " } else { "} " });
                let _ = match v.value {
                    x if x.is_nan() => writeln!(out, "NaN"),
                    x if x.is_infinite() => {
                        writeln!(out, "{}", if x > 0.0 { "+Inf" } else { "-Inf" })
                    }
                    x => writeln!(out, "{x}"),
                };
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_escaped_and_sorted() {
        let mut e = Exposition::default();
        e.gauge("b", "two\nlines", 1.5);
        e.add(
            MetricKind::Counter,
            "a_total",
            "a",
            &[("x", "q\"\\\n")],
            2.0,
        );
        e.add(
            MetricKind::Counter,
            "a_total",
            "a",
            &[("x", "y"), ("z", "")],
            f64::INFINITY,
        );
        assert_eq!(
            e.encode(),
            "# HELP a_total a\n# TYPE a_total counter\na_total{x=\"q\\\"\\\\\\n\"} 2\na_total{x=\"y\",z=\"\"} +Inf\n# HELP b two\\nlines\n# TYPE b gauge\nb 1.5\n"
        );
        assert_eq!(e.samples().count(), 3);
    }
}
