//! Answers of the real Tempo, and how ours are held against them.

use std::collections::{BTreeMap, BTreeSet};

use lgtm_tracestore::traceql::{AnswerValue, MetricsAnswer, TagValue, TraceHit};
use serde_json::Value;

/// What differs; empty: nothing.
pub(crate) type Differences = Vec<String>;

pub(crate) fn close(a: f64, b: f64) -> bool {
    a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

/// Nanoseconds of a duration's text, as whoever wrote it.
fn duration_ns(text: &str) -> Option<f64> {
    let digits = text.trim_start_matches('-');
    let (mut rest, mut total) = (digits, 0.0);
    if rest == "0" {
        return Some(0.0);
    }
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..number].parse().ok()?;
        let tail = &rest[number..];
        let end = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let unit = match &tail[..end] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += value * unit;
        rest = &tail[end..];
    }
    (!digits.is_empty()).then_some(total)
}

fn same_value(want: &Value, got: &AnswerValue) -> bool {
    match (want, got) {
        (Value::Bool(a), AnswerValue::Bool(b)) => a == b,
        (Value::Number(a), AnswerValue::Int(b)) => close(a.as_f64().unwrap(), *b as f64),
        (Value::Number(a), AnswerValue::Float(b)) => close(a.as_f64().unwrap(), *b),
        (Value::String(a), AnswerValue::Text(b)) => {
            a == b || (duration_ns(a).zip(duration_ns(b))).is_some_and(|(a, b)| close(a, b))
        }
        _ => false,
    }
}

fn names(attributes: &[(String, AnswerValue)]) -> BTreeSet<&str> {
    attributes.iter().map(|(name, _)| name.as_str()).collect()
}

fn padded(id: &str) -> String {
    format!("{id:0>32}")
}

/// Differences of a search's answer. `sha` computes the digest of the sets that list no spans.
pub(crate) fn of_search(expected: &Value, got: &[TraceHit], is_legacy: bool) -> Differences {
    let mut out = Vec::new();
    let have: BTreeMap<String, &TraceHit> =
        got.iter().map(|hit| (hit.id.to_string(), hit)).collect();
    if expected["summary"] == true {
        let want: BTreeMap<String, u64> = (expected["traces"].as_array().unwrap().iter())
            .map(|pair| (padded(pair[0].as_str().unwrap()), pair[1].as_u64().unwrap()))
            .collect();
        for (id, matched) in &want {
            let got = have
                .get(id)
                .map(|hit| hit.sets.iter().map(|s| s.matched).sum());
            if got != Some(*matched) {
                out.push(format!(
                    "trace {id}: matched {matched} expected, got {got:?}"
                ));
            }
        }
        out.extend(
            have.keys()
                .filter(|id| !want.contains_key(*id))
                .map(|id| format!("extra trace {id}")),
        );
        return out;
    }
    let want: BTreeMap<String, &Value> = (expected["traces"].as_array().unwrap().iter())
        .map(|t| (padded(t["traceID"].as_str().unwrap()), t))
        .collect();
    match expected["pick"].as_u64() {
        Some(pick) if pick as usize != have.len() => {
            out.push(format!("any {pick} traces expected, got {}", have.len()));
        }
        Some(_) => {}
        None => out.extend(
            (want.keys().filter(|id| !have.contains_key(*id)))
                .map(|id| format!("missing trace {id}")),
        ),
    }
    for (id, hit) in have {
        match want.get(&id) {
            None => out.push(format!("extra trace {id}")),
            Some(trace) => out.extend(of_trace(trace, hit, expected["spss"].as_u64(), is_legacy)),
        }
    }
    out
}

fn of_trace(want: &Value, hit: &TraceHit, spss: Option<u64>, is_legacy: bool) -> Differences {
    let mut out = Vec::new();
    let service = if hit.root_service.is_empty() {
        "<root span not yet received>"
    } else {
        &hit.root_service
    };
    let same = [
        want["rootServiceName"] == service,
        want["rootTraceName"] == *hit.root_name,
        want["startTimeUnixNano"] == *hit.start_ns.to_string(),
        want["durationMs"].as_u64() == Some(hit.duration_ns / 1_000_000),
    ];
    if same.contains(&false) {
        out.push(format!("trace {}: {same:?} {want} {hit:?}", hit.id));
    }
    if let Some(stats) = want["serviceStats"].as_object() {
        let want: BTreeMap<&str, (u64, u64)> = (stats.iter())
            .map(|(name, s)| {
                let of = |key: &str| s[key].as_u64().unwrap_or(0);
                (name.as_str(), (of("spanCount"), of("errorCount")))
            })
            .collect();
        let got: BTreeMap<&str, (u64, u64)> = (hit.services.iter())
            .map(|s| {
                let name = std::str::from_utf8(&s.name).unwrap();
                (name, (u64::from(s.spans), u64::from(s.errors)))
            })
            .collect();
        if want != got {
            out.push(format!("trace {}: services {want:?}, got {got:?}", hit.id));
        }
    }
    if is_legacy {
        return out;
    }
    let sets = want["spanSets"].as_array().unwrap();
    let ids = |set: &lgtm_tracestore::traceql::SetHit| {
        let mut ids: Vec<String> = set.spans.iter().map(|s| s.id.to_string()).collect();
        ids.sort();
        ids
    };
    let mut got: Vec<_> = hit.sets.iter().map(|set| (ids(set), set)).collect();
    got.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut wanted: Vec<_> = sets.iter().map(|set| (texts(&set["spans"]), set)).collect();
    wanted.sort_by(|(a, _), (b, _)| a.cmp(b));
    if wanted.len() != got.len() {
        out.push(format!(
            "trace {}: {} sets, got {}",
            hit.id,
            sets.len(),
            got.len()
        ));
    }
    for ((want_ids, want), (got_ids, got)) in wanted.into_iter().zip(got) {
        let fits = match spss {
            Some(spss) if want_ids.len() > spss as usize => {
                got_ids.len() == spss as usize && got_ids.iter().all(|id| want_ids.contains(id))
            }
            _ => want_ids == got_ids,
        };
        if !fits || want["matched"].as_u64() != Some(got.matched) {
            out.push(format!(
                "trace {}: spans {want_ids:?}, got {got_ids:?}",
                hit.id
            ));
        }
        let none = serde_json::Map::new();
        let attributes = want["attributes"].as_object().unwrap_or(&none);
        let same_names = names(&got.attributes) == attributes.keys().map(String::as_str).collect();
        let mut pairs = got.attributes.iter();
        if !same_names || !pairs.all(|(name, v)| same_value(&attributes[name], v)) {
            out.push(format!(
                "trace {}: {attributes:?}, got {:?}",
                hit.id, got.attributes
            ));
        }
        for (id, pairs) in want["spanAttributes"].as_object().into_iter().flatten() {
            let Some(span) = got.spans.iter().find(|s| s.id.to_string() == *id) else {
                continue;
            };
            let mut left = span.attributes.clone();
            left.extend(
                span.name
                    .clone()
                    .map(|n| ("name".to_owned(), AnswerValue::Text(n))),
            );
            for pair in pairs.as_array().unwrap() {
                let at = left
                    .iter()
                    .position(|(name, v)| pair[0] == **name && same_value(&pair[1], v));
                match at {
                    Some(at) => drop(left.swap_remove(at)),
                    None => out.push(format!(
                        "span {id}: {pair} is missing of {:?}",
                        span.attributes
                    )),
                }
            }
            if !left.is_empty() {
                out.push(format!("span {id}: has {left:?} too"));
            }
        }
    }
    out
}

fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.map(|t| t.as_str().unwrap().to_owned()).collect()
}

/// Labels as one text, floats to nine digits.
fn label_key(name: &str, value: &AnswerValue) -> String {
    match value {
        AnswerValue::Text(v) => format!("{name}=t{v:?}"),
        AnswerValue::Int(v) => format!("{name}=i{v}"),
        AnswerValue::Float(v) => format!("{name}=f{v:.8e}"),
        AnswerValue::Bool(v) => format!("{name}=b{v}"),
        AnswerValue::Array(v) => format!("{name}=a{v:?}"),
    }
}

fn labels_key(mut labels: Vec<String>) -> String {
    labels.sort();
    labels.join(", ")
}

pub(crate) fn of_metrics(case: &Value, expected: &Value, got: &MetricsAnswer) -> Differences {
    let mut out = Vec::new();
    let is_instant = case["api"] == "query_instant";
    let mut want: BTreeMap<String, BTreeMap<u64, f64>> = BTreeMap::new();
    for series in expected["series"].as_array().unwrap() {
        let labels = series["labels"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, v)| {
                let value = match series["labelTypes"][name].as_str().unwrap() {
                    "stringValue" => AnswerValue::Text(v.as_str().unwrap().to_owned()),
                    "intValue" => AnswerValue::Int(v.as_i64().unwrap()),
                    "doubleValue" => AnswerValue::Float(v.as_f64().unwrap()),
                    "boolValue" => AnswerValue::Bool(v.as_bool().unwrap()),
                    other => panic!("a label of kind {other}"),
                };
                label_key(name, &value)
            });
        let points = if is_instant {
            BTreeMap::from([(0, series["value"].as_f64().unwrap())])
        } else {
            (series["samples"].as_array().unwrap().iter())
                .map(|p| (p[0].as_u64().unwrap(), p[1].as_f64().unwrap()))
                .collect()
        };
        want.insert(labels_key(labels.collect()), points);
    }
    let mut have = BTreeMap::new();
    for series in &got.series {
        let labels = series.labels.iter().map(|(name, v)| label_key(name, v));
        let points = series.points(&got.grid);
        let points: BTreeMap<u64, f64> = points
            .map(|(ns, v)| (if is_instant { 0 } else { ns / 1_000_000 }, v))
            .collect();
        let again = have.insert(labels_key(labels.collect()), points);
        assert!(again.is_none(), "a series twice: {:?}", series.labels);
    }
    let some_only = case["query"]
        .as_str()
        .unwrap_or_default()
        .contains("compare(");
    for (labels, points) in &want {
        match have.get(labels) {
            None => out.push(format!("missing series {labels}")),
            Some(got) => {
                let same = points.len() == got.len()
                    && points
                        .iter()
                        .zip(got)
                        .all(|((t, a), (u, b))| t == u && close(*a, *b));
                if !same {
                    out.push(format!("{labels}: {points:?}, got {got:?}"));
                }
            }
        }
    }
    let extra = have
        .keys()
        .filter(|labels| !want.contains_key(*labels) && !some_only);
    out.extend(extra.map(|labels| format!("extra series {labels}")));
    if let Some(exemplars) = expected.get("exemplars") {
        let got: Vec<_> = got.series.iter().flat_map(|s| &s.exemplars).collect();
        let of = |key: &str| exemplars[key].as_u64().unwrap() as usize;
        if got.len() < of("min") || got.len() > of("max") {
            out.push(format!("{} exemplars: {exemplars}", got.len()));
        }
        let traces: BTreeSet<String> = texts(&exemplars["traces"])
            .iter()
            .map(|t| padded(t))
            .collect();
        for exemplar in got {
            let id = exemplar.labels.iter().find(|(name, _)| name == "trace:id");
            if !id.is_some_and(|(_, id)| traces.contains(&padded(&id.to_string()))) {
                out.push(format!("exemplar of another trace: {:?}", exemplar.labels));
            }
        }
    }
    out
}

pub(crate) fn of_set(
    want: BTreeSet<String>,
    got: &BTreeSet<String>,
    pick: Option<u64>,
) -> Differences {
    let mut out = Vec::new();
    let extra: Vec<_> = got.difference(&want).collect();
    if !extra.is_empty() {
        out.push(format!("extra {extra:?}"));
    }
    let missing: Vec<_> = want.difference(got).collect();
    match pick {
        Some(pick) if got.len() as u64 != pick => out.push(format!("any {pick}, got {got:?}")),
        None if !missing.is_empty() => out.push(format!("missing {missing:?}")),
        _ => {}
    }
    out
}

pub(crate) fn of_tags(expected: &Value, got: &BTreeMap<String, BTreeSet<String>>) -> Differences {
    let pick = expected["pick"].as_u64();
    if let Some(scopes) = expected["scopes"].as_object() {
        let none = BTreeSet::new();
        let mut names: BTreeSet<&String> = scopes.keys().collect();
        names.extend(got.keys());
        let each = names.into_iter().flat_map(|scope| {
            let want = scopes.get(scope).map(texts).unwrap_or_default();
            let got = got.get(scope).unwrap_or(&none);
            let differences = of_set(want.into_iter().collect(), got, pick);
            differences
                .into_iter()
                .map(move |d| format!("{scope}: {d}"))
        });
        return each.collect();
    }
    let all: BTreeSet<String> = got.values().flatten().cloned().collect();
    of_set(
        texts(&expected["tagNames"]).into_iter().collect(),
        &all,
        pick,
    )
}

pub(crate) fn of_values(case: &Value, expected: &Value, got: &BTreeSet<TagValue>) -> Differences {
    let pick = expected["pick"].as_u64();
    if case["api"] == "values" {
        let got = got.iter().map(|v| v.text.clone()).collect();
        return of_set(
            texts(&expected["tagValues"]).into_iter().collect(),
            &got,
            pick,
        );
    }
    let want = expected["tagValues"].as_array().unwrap().iter();
    let want = want.map(|v| format!("{} {}", v[0].as_str().unwrap_or_default(), v[1]));
    let got = got
        .iter()
        .map(|v| format!("{} {}", v.kind.name(), Value::from(v.text.clone())));
    of_set(want.collect(), &got.collect(), pick)
}
