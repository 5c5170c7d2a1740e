//! What a script loads: series lines, value sequences, histogram literals, classic histograms turned native.

use std::collections::BTreeMap;

use lgtm_core::model::{
    BucketSpan, CounterResetHint, FloatHistogram, LabelBuilder, Labels, METRIC_NAME, MatchOp,
    stale_nan,
};
use lgtm_tsdb::promql::{Expr, ParserOptions, histogram, parse, parse_selector};

use super::script::duration;

/// A value of a sequence.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    Float(f64),
    /// The flag: whether the literal spells the counter-reset hint.
    Histogram(FloatHistogram, bool),
}

/// A sequence: `None` is "no sample".
pub(crate) type Values = Vec<Option<Item>>;

/// `<series> <values>`
#[derive(Debug, Clone)]
pub(crate) struct SeriesLine {
    pub(crate) labels: Labels,
    pub(crate) values: Values,
}

/// A sample with its start timestamp, 0 when not known.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) t_ms: i64,
    pub(crate) start_ms: i64,
    pub(crate) value: Item,
}

/// `load` or `load_with_nhcb`
#[derive(Debug)]
pub(crate) struct Load {
    step_ms: i64,
    with_native: bool,
    lines: BTreeMap<Labels, (Values, Vec<i64>)>,
    /// Start timestamps for the next line.
    starts: Option<(String, Vec<Option<i64>>)>,
}

impl Load {
    pub(crate) fn begin(line: &str) -> Result<Self, String> {
        let mut words = line.split([' ', '\t']).filter(|w| !w.is_empty());
        let command = words.next().unwrap_or("").to_lowercase();
        let step = words.next().ok_or("load without a step")?;
        Ok(Self {
            step_ms: duration(step)?,
            with_native: command == "load_with_nhcb",
            lines: BTreeMap::new(),
            starts: None,
        })
    }

    pub(crate) fn line(&mut self, line: &str) -> Result<(), String> {
        let end = line.find([' ', '\t']).unwrap_or(line.len());
        if let Some(series) = line[..end].strip_suffix("@st") {
            let starts = offsets(&line[end..])?;
            self.starts = Some((series.to_owned(), starts));
            return Ok(());
        }
        let SeriesLine { labels, values } = parse_series_line(line)?;
        let mut starts = vec![0; values.len()];
        if let Some((series, list)) = self.starts.take() {
            if labels_of(&series)? != labels || list.len() != values.len() {
                return Err(format!(
                    "start timestamps of {series:?} ({}) go with {labels} ({})",
                    list.len(),
                    values.len()
                ));
            }
            for (n, offset) in list.into_iter().enumerate() {
                let t_ms = self.step_ms * n as i64;
                starts[n] = offset.map_or(0, |o| t_ms + o);
            }
        }
        self.lines.insert(labels, (values, starts));
        Ok(())
    }

    /// The samples of each series.
    pub(crate) fn samples(&self) -> Result<Vec<(Labels, Vec<Loaded>)>, String> {
        let mut out = Vec::new();
        for (labels, (values, starts)) in &self.lines {
            let samples = values.iter().zip(starts).enumerate();
            let samples: Vec<Loaded> = samples
                .filter_map(|(n, (value, start_ms))| {
                    Some(Loaded {
                        t_ms: self.step_ms * n as i64,
                        start_ms: *start_ms,
                        value: value.clone()?,
                    })
                })
                .collect();
            out.push((labels.clone(), samples));
        }
        if self.with_native {
            let native = native(&out)?;
            out.extend(native);
        }
        Ok(out)
    }
}

/// Native histograms with custom buckets of the classic ones among `series`.
fn native(series: &[(Labels, Vec<Loaded>)]) -> Result<Vec<(Labels, Vec<Loaded>)>, String> {
    #[derive(Default)]
    struct Classic {
        buckets: Vec<(f64, f64)>,
        count: Option<f64>,
        sum: Option<f64>,
    }
    let mut all: BTreeMap<(Labels, i64), Classic> = BTreeMap::new();
    for (labels, samples) in series {
        let name = labels.metric_name().unwrap_or("");
        let Some((base, part)) = ["_bucket", "_count", "_sum"]
            .iter()
            .find_map(|end| Some((name.strip_suffix(end)?, *end)))
        else {
            continue;
        };
        let bound = match (part, labels.get("le")) {
            ("_bucket", Some(le)) => match le.trim_start_matches('+').to_lowercase().as_str() {
                "inf" => f64::INFINITY,
                le => match le.parse::<f64>() {
                    Ok(le) if !le.is_nan() => le,
                    _ => continue,
                },
            },
            ("_bucket", None) => continue,
            _ => 0.0,
        };
        let mut builder = LabelBuilder::from_labels(labels);
        builder.remove("le").set(METRIC_NAME, base);
        let labels = builder.build().unwrap();
        for s in samples {
            let Item::Float(v) = s.value else { continue };
            let classic = all.entry((labels.clone(), s.t_ms)).or_default();
            match part {
                "_bucket" => classic.buckets.push((bound, v)),
                "_count" => classic.count = Some(v),
                _ => classic.sum = Some(v),
            }
        }
    }
    let mut out: BTreeMap<Labels, Vec<Loaded>> = BTreeMap::new();
    for ((labels, t_ms), mut c) in all {
        if c.buckets.is_empty() && c.count.is_none() {
            continue;
        }
        c.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        // One bound spelled in several ways is one bucket.
        c.buckets.dedup_by(|a, b| a.0 == b.0);
        let count = c
            .count
            .unwrap_or_else(|| c.buckets.last().map_or(0.0, |b| b.1));
        if c.buckets.last().is_none_or(|b| b.0 != f64::INFINITY) {
            c.buckets.push((f64::INFINITY, count));
        }
        let mut before = 0.0;
        let mut counts = Vec::new();
        for (_, cumulative) in &c.buckets {
            if *cumulative < before {
                return Err(format!("{labels} at {t_ms}: buckets are not cumulative"));
            }
            counts.push(cumulative - before);
            before = *cumulative;
        }
        if before != count {
            return Err(format!(
                "{labels} at {t_ms}: count {count} and +Inf bucket {before}"
            ));
        }
        let mut h = FloatHistogram {
            schema: -53,
            count,
            sum: c.sum.unwrap_or(0.0),
            positive_spans: vec![BucketSpan {
                offset: 0,
                length: counts.len() as u32,
            }],
            positive_counts: counts,
            custom_values: c.buckets[..c.buckets.len() - 1]
                .iter()
                .map(|b| b.0)
                .collect(),
            ..FloatHistogram::default()
        };
        histogram::compact(&mut h);
        out.entry(labels).or_default().push(Loaded {
            t_ms,
            start_ms: 0,
            value: Item::Histogram(h, false),
        });
    }
    Ok(out.into_iter().collect())
}

/// `name{a="b"} 1 2 3`
pub(crate) fn parse_series_line(line: &str) -> Result<SeriesLine, String> {
    let end = series_end(line);
    Ok(SeriesLine {
        labels: labels_of(line[..end].trim())?,
        values: parse_value_line(&line[end..])?,
    })
}

/// Where the series ends: behind its braces, or at the first blank.
fn series_end(line: &str) -> usize {
    let mut quote: Option<char> = None;
    let mut escaped = false;
    let mut inside = false;
    let chars: Vec<(usize, char)> = line.char_indices().collect();
    for (n, (at, c)) in chars.iter().enumerate() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(q) if *c == '\\' && q != '`' => escaped = true,
            Some(q) if *c == q => quote = None,
            Some(_) => {}
            None => match c {
                '"' | '\'' | '`' => quote = Some(*c),
                '{' => inside = true,
                '}' => return at + 1,
                ' ' | '\t' if !inside => {
                    // A blank may stand before the braces.
                    let next = chars[n..].iter().find(|(_, c)| !" \t".contains(*c));
                    let braces =
                        next.is_some_and(|(at, c)| *c == '{' && !line[*at..].starts_with("{{"));
                    if !braces {
                        return *at;
                    }
                }
                _ => {}
            },
        }
    }
    line.len()
}

fn labels_of(text: &str) -> Result<Labels, String> {
    let matchers = parse_selector(text, &ParserOptions::default()).map_err(|e| e.to_string())?;
    let mut builder = LabelBuilder::default();
    for m in matchers {
        if m.op() != MatchOp::Equal {
            return Err(format!("{text:?} is no series"));
        }
        builder.push(m.name(), m.value());
    }
    builder.build().map_err(|e| e.to_string())
}

/// `1 2x3 _ {{…}}`
fn parse_value_line(text: &str) -> Result<Values, String> {
    let mut out = Vec::new();
    let mut rest = text.trim_matches([' ', '\t']);
    while !rest.is_empty() {
        let (item, after) = item(rest);
        rest = after.trim_start_matches([' ', '\t']);
        expand(item, &mut out).map_err(|e| format!("{item:?}: {e}"))?;
    }
    Ok(out)
}

/// The first item: up to a blank outside of braces.
fn item(text: &str) -> (&str, &str) {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ' ' | '\t' if depth == 0 => return text.split_at(at),
            _ => {}
        }
    }
    (text, "")
}

fn times(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("count {text:?}"))
}

fn expand(item: &str, out: &mut Values) -> Result<(), String> {
    if let Some(rest) = item.strip_prefix('_') {
        let n = match rest.strip_prefix('x') {
            Some(n) => times(n)?,
            None if rest.is_empty() => 1,
            None => return Err("not a gap".into()),
        };
        out.extend(std::iter::repeat_n(None, n));
        return Ok(());
    }
    if item == "stale" {
        out.push(Some(Item::Float(stale_nan())));
        return Ok(());
    }
    if item.starts_with("{{") {
        return expand_histograms(item, out);
    }
    let (first, rest) = number(item)?;
    let (step, rest) = match rest.as_bytes().first() {
        Some(b'+' | b'-') => {
            let negative = rest.starts_with('-');
            let (step, rest) = number(&rest[1..])?;
            (if negative { -step } else { step }, rest)
        }
        _ => (0.0, rest),
    };
    let n = match rest.strip_prefix('x') {
        Some(n) => times(n)?,
        None if rest.is_empty() => 0,
        None => return Err(format!("{rest:?} behind a number")),
    };
    let mut v = first;
    for _ in 0..=n {
        out.push(Some(Item::Float(v)));
        // Adding 0 would turn -0 into 0.
        if step != 0.0 {
            v += step;
        }
    }
    Ok(())
}

/// A number and what follows it. `0x3` is "0, four times".
fn number(text: &str) -> Result<(f64, &str), String> {
    let (sign, digits) = match text.as_bytes().first() {
        Some(b'-') => (-1.0, &text[1..]),
        Some(b'+') => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    let lower = digits.to_lowercase();
    for (word, value) in [("inf", f64::INFINITY), ("nan", f64::NAN)] {
        if lower.starts_with(word) {
            return Ok((sign * value, &digits[3..]));
        }
    }
    let bytes = digits.as_bytes();
    let mut end = 0;
    while end < bytes.len() {
        let exponent_sign = b"+-".contains(&bytes[end])
            && end > 0
            && b"eE".contains(&bytes[end - 1])
            && !digits[..end].contains('x');
        let inside = bytes[end].is_ascii_digit()
            || b"._".contains(&bytes[end])
            || b"eE".contains(&bytes[end])
                && bytes
                    .get(end + 1)
                    .is_some_and(|b| b"+-0123456789".contains(b))
            || b"smhdwy".contains(&bytes[end]);
        if !inside && !exponent_sign {
            break;
        }
        end += 1;
    }
    match parse(&digits[..end]) {
        Ok(Expr::Number(n)) => Ok((sign * n.value, &digits[end..])),
        _ => Err(format!("number {text:?}")),
    }
}

fn expand_histograms(item: &str, out: &mut Values) -> Result<(), String> {
    let end = item.find("}}").ok_or("histogram without end")? + 2;
    let (mut h, mut spelled) = literal(&item[..end])?;
    let mut rest = &item[end..];
    let mut step = None;
    if let Some(sign) = rest.chars().next().filter(|c| "+-".contains(*c)) {
        let end = rest.find("}}").ok_or("histogram without end")? + 2;
        let (by, by_spelled) = literal(&rest[1..end])?;
        if by.schema < h.schema && !by.uses_custom_buckets() {
            return Err("the increment has a coarser schema".into());
        }
        spelled |= by_spelled;
        if by_spelled {
            h.hint = by.hint;
        }
        step = Some((sign, by));
        rest = &rest[end..];
    }
    let n = match rest.strip_prefix('x') {
        Some(n) => times(n)?,
        None if rest.is_empty() => 0,
        None => return Err(format!("{rest:?} behind a histogram")),
    };
    for k in 0..=n {
        out.push(Some(Item::Histogram(h.clone(), spelled)));
        if k == n {
            break;
        }
        if let Some((sign, by)) = &step {
            let hint = h.hint;
            let merged = match sign {
                '+' => histogram::add(&mut h, by),
                _ => histogram::subtract(&mut h, by),
            };
            merged.map_err(|e| format!("{e:?}"))?;
            histogram::compact(&mut h);
            h.hint = if spelled { by.hint } else { hint };
        }
    }
    Ok(())
}

fn literal(text: &str) -> Result<(FloatHistogram, bool), String> {
    let inside = text
        .strip_prefix("{{")
        .and_then(|t| t.strip_suffix("}}"))
        .ok_or("not a histogram")?;
    let mut h = FloatHistogram::default();
    let (mut offset, mut n_offset) = (0, 0);
    let mut spelled = false;
    let mut seen = std::collections::BTreeSet::new();
    let mut rest = inside.trim();
    while !rest.is_empty() {
        let (key, after) = rest
            .split_once(':')
            .ok_or_else(|| format!("{rest:?} in a histogram"))?;
        let key = key.trim();
        if !seen.insert(key) {
            return Err(format!("{key:?} stands twice"));
        }
        let (value, after) = match after.strip_prefix('[') {
            Some(list) => list.split_once(']').ok_or("list without end")?,
            None => after.split_at(after.find([' ', '\t']).unwrap_or(after.len())),
        };
        rest = after.trim_start();
        let one = || number(value).map(|n| n.0);
        let int = || value.parse::<i32>().map_err(|_| format!("{value:?}"));
        let list = || {
            let words = value.split([' ', '\t']).filter(|w| !w.is_empty());
            words
                .map(|w| number(w).map(|n| n.0))
                .collect::<Result<Vec<f64>, _>>()
        };
        match key {
            "schema" => h.schema = int()?,
            "count" => h.count = one()?,
            "sum" => h.sum = one()?,
            "z_bucket" => h.zero_count = one()?,
            "z_bucket_w" => h.zero_threshold = one()?,
            "buckets" => h.positive_counts = list()?,
            "n_buckets" => h.negative_counts = list()?,
            "offset" => offset = int()?,
            "n_offset" => n_offset = int()?,
            "custom_values" => h.custom_values = list()?,
            "counter_reset_hint" => {
                spelled = true;
                h.hint = match value {
                    "unknown" => CounterResetHint::Unknown,
                    "reset" => CounterResetHint::Reset,
                    "not_reset" => CounterResetHint::NotReset,
                    "gauge" => CounterResetHint::Gauge,
                    other => return Err(format!("hint {other:?}")),
                };
            }
            other => return Err(format!("{other:?} in a histogram")),
        }
    }
    let span = |offset, counts: &[f64]| match counts.len() {
        0 => Vec::new(),
        n => vec![BucketSpan {
            offset,
            length: n as u32,
        }],
    };
    h.positive_spans = span(offset, &h.positive_counts);
    h.negative_spans = span(n_offset, &h.negative_counts);
    Ok((h, spelled))
}

/// `_ -1m -30s-1mx3`: offsets of start timestamps, milliseconds.
fn offsets(text: &str) -> Result<Vec<Option<i64>>, String> {
    let mut out = Vec::new();
    for item in text.split([' ', '\t']).filter(|i| !i.is_empty()) {
        if let Some(rest) = item.strip_prefix('_') {
            let n = rest.strip_prefix('x').map_or(Ok(1), times)?;
            out.extend(std::iter::repeat_n(None, n));
            continue;
        }
        let (body, n) = match item.rsplit_once('x') {
            Some((body, n)) => (body, times(n)?),
            None => (item, 0),
        };
        let signed = |text: &str| match text.strip_prefix('-') {
            Some(text) => duration(text).map(|d| -d),
            None => duration(text.strip_prefix('+').unwrap_or(text)),
        };
        let (first, step) = match body[1..].find(['+', '-']) {
            Some(at) => (signed(&body[..=at])?, signed(&body[at + 1..])?),
            None => (signed(body)?, 0),
        };
        out.extend((0..=n as i64).map(|k| Some(first + step * k)));
    }
    Ok(out)
}
