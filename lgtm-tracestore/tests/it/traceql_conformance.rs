//! The answers of a real Tempo, query by query: the sets below `conformance` whose name begins with `traceql`.
//!
//! Each case is asked of traces in memory, in batches of several sizes; searches also in two passes, metrics also in parts that are joined. Cases that only a
//! door or another floor can answer are counted and named.

use crate::shared;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::conformance::{Differences, of_metrics, of_search, of_tags, of_values};
use crate::otlp_json::{Stored, protobuf};
use lgtm_core::go::parse_rfc3339_ns;
use lgtm_tracestore::select::{
    ReadyBatches, SelectEnd, SpanBatches, TraceRange, WantedColumns, WantedRows,
};
use lgtm_tracestore::traceql::{
    INTRINSIC_TAGS, IntervalGrid, Metrics, MetricsAnswer, MetricsSettings, QueryError, Search,
    SearchSettings, TagNames, TagScope, TagValues, TraceHit, parse, tag_field, unscoped_tag_fields,
};
use serde_json::Value;

const SECOND: u64 = 1_000_000_000;

fn stored(folder: &Path) -> Stored {
    let mut text = String::new();
    let file = std::fs::File::open(folder.join("input.jsonl.gz")).unwrap();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(file), &mut text).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    Stored::of(lines.map(|json: Value| protobuf(&json)))
}

/// What became of a case.
enum Outcome {
    Answer(Differences),
    Refused(String),
    /// Not a matter of the language.
    Elsewhere,
}

fn refused(error: &QueryError) -> Outcome {
    Outcome::Refused(error.to_string())
}

fn number(params: &Value, key: &str) -> Option<u64> {
    match &params[key] {
        Value::String(text) => text.parse().ok(),
        value => value.as_u64(),
    }
}

/// A time in one of the four forms.
fn time_ns(value: &Value) -> Option<u64> {
    match value {
        Value::Number(n) => match n.as_u64() {
            Some(n) if n > 99_999_999_999 => Some(n),
            Some(n) => Some(n * SECOND),
            None => {
                let seconds = n.as_f64()?;
                Some(seconds.trunc() as u64 * SECOND + (seconds.fract() * 1e9).round() as u64)
            }
        },
        Value::String(text) => match text.parse::<f64>() {
            Ok(_) => time_ns(&serde_json::from_str(text).ok()?),
            Err(_) => parse_rfc3339_ns(text).map(|t| t.get() as u64),
        },
        _ => None,
    }
}

fn range_of(params: &Value) -> Option<TraceRange> {
    Some(TraceRange {
        start_ns: number(params, "start")? * SECOND,
        end_ns: number(params, "end")? * SECOND,
    })
}

fn search(case: &Value, stored: &Stored, expected: &Value) -> Outcome {
    let params = &case["params"];
    let Some(range) = range_of(params).filter(|r| r.start_ns < r.end_ns) else {
        return Outcome::Elsewhere;
    };
    let settings = SearchSettings {
        limit: number(params, "limit").unwrap_or(20) as usize,
        spans_per_set: number(params, "spss").unwrap_or(3) as usize,
        range: Some(range),
        ..SearchSettings::default()
    };
    if settings.limit == 0 {
        return Outcome::Elsewhere;
    }
    let query = match parse(params["q"].as_str().unwrap()) {
        Ok(query) => query,
        Err(e) => return refused(&e),
    };
    let mut answers: Vec<Vec<TraceHit>> = Vec::new();
    for traces in [3, 1_000] {
        let mut whole = Search::new(&query, settings);
        for batch in stored.batches(&whole.whole_request().columns, traces) {
            whole.fold(&batch).unwrap();
        }
        answers.push(whole.finish());
    }
    // In two passes, as of a holder, until nothing that is to come can be among the newest.
    let mut search = Search::new(&query, settings);
    let batches = stored.batches(&search.whole_request().columns, 7);
    let mut answer = ReadyBatches::new(batches, SelectEnd::default());
    block_on(async {
        while let Some(batch) = answer.next_batch().await.unwrap() {
            let matches = search.matches(&batch);
            let wanted = WantedRows {
                row_ids: matches.rows().map(|row| batch.row_ids[row]).collect(),
                columns: search.details().clone(),
            };
            let details = answer.rows(&wanted).await.unwrap();
            search.add(&batch, matches, &details).unwrap();
            if answer
                .newest_start_ns()
                .is_some_and(|ns| search.is_settled(ns))
            {
                break;
            }
        }
    });
    answers.push(search.finish());
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{case}");
    Outcome::Answer(of_search(expected, &answers[0], false))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

fn metrics(case: &Value, stored: &Stored, expected: &Value) -> Outcome {
    let params = &case["params"];
    let query = match parse(params["q"].as_str().unwrap()) {
        Ok(query) => query,
        Err(e) => return refused(&e),
    };
    let (start_ns, end_ns) = (time_ns(&params["start"]), time_ns(&params["end"]));
    let (Some(start_ns), Some(end_ns)) = (start_ns, end_ns) else {
        return Outcome::Elsewhere;
    };
    let grid = if case["api"] == "query_instant" {
        IntervalGrid::instant(start_ns, end_ns)
    } else {
        let Some(step_ns) = step_ns(&params["step"]) else {
            return Outcome::Elsewhere;
        };
        IntervalGrid::range(start_ns, end_ns, step_ns)
    };
    let settings = MetricsSettings {
        grid: grid.unwrap(),
        exemplars: number(params, "exemplars").unwrap_or(0) as usize,
        max_series: 0,
        max_bytes: 1 << 30,
    };
    let mut answers = Vec::new();
    for (traces, joined) in [(1_000_000, false), (7, false), (7, true)] {
        let make = || Metrics::new(&query, &settings);
        let mut metrics = match make() {
            Ok(metrics) => metrics,
            Err(e) => return Outcome::Refused(e.to_string()),
        };
        let mut parts = Vec::new();
        for batch in stored.batches(&metrics.request().columns.clone(), traces) {
            metrics.fold(&batch).unwrap();
            if joined {
                parts.push(std::mem::replace(&mut metrics, make().unwrap()).finish());
            }
        }
        let mut partial = metrics.finish();
        for part in parts {
            partial.merge(part).unwrap();
        }
        answers.push(MetricsAnswer::of(&query, &settings, partial));
    }
    for answer in &answers[1..] {
        let texts = [&answers[0], answer].map(|a| format!("{a:?}"));
        let same = texts[0] == texts[1] || texts[0].len() == texts[1].len();
        assert!(same, "{case}: {texts:?}");
    }
    let mut out = of_metrics(case, expected, &answers[0]);
    out.extend(of_metrics(case, expected, &answers[2]));
    Outcome::Answer(out)
}

fn step_ns(step: &Value) -> Option<u64> {
    let text = step.as_str()?;
    if let Ok(ns) = lgtm_core::go::parse_duration_ns(text) {
        return Some(ns);
    }
    Some((text.parse::<f64>().ok()? * 1e9) as u64)
}

fn tags(case: &Value, stored: &Stored, expected: &Value) -> Outcome {
    let params = &case["params"];
    let scope = match TagScope::parse(params["scope"].as_str().unwrap_or_default()) {
        Ok(scope) => scope,
        Err(e) => return refused(&e),
    };
    let limit = number(params, "limit").unwrap_or(0) as usize;
    let mut names = match TagNames::new(scope, params["q"].as_str(), limit) {
        Ok(names) => names,
        Err(e) => return refused(&e),
    };
    for batch in stored.batches(&names.request().columns.clone(), 7) {
        names.fold(&batch);
    }
    let names = names.finish().into_iter();
    let mut names: BTreeMap<String, BTreeSet<String>> = names
        .map(|(scope, names)| (scope.name().to_owned(), names))
        .collect();
    let tells_intrinsics =
        scope == TagScope::Intrinsic || scope == TagScope::All && case["api"] == "tags_v2";
    if tells_intrinsics {
        names.insert(
            "intrinsic".to_owned(),
            INTRINSIC_TAGS.map(str::to_owned).into(),
        );
    }
    Outcome::Answer(of_tags(expected, &names))
}

fn values(case: &Value, stored: &Stored, expected: &Value) -> Outcome {
    let path = case["path"].as_str().unwrap();
    let tag = path
        .split("/tag/")
        .nth(1)
        .unwrap()
        .strip_suffix("/values")
        .unwrap();
    let tag = unescaped(tag);
    let params = &case["params"];
    let (fields, query) = if case["api"] == "values" {
        (unscoped_tag_fields(&tag), None)
    } else {
        match tag_field(&tag) {
            Ok(field) => (vec![field], params["q"].as_str()),
            Err(e) => return refused(&e),
        }
    };
    let limit = number(params, "limit").unwrap_or(0) as usize;
    let mut values = match TagValues::new(fields, query, limit) {
        Ok(values) => values,
        Err(e) => return refused(&e),
    };
    for batch in stored.batches(&values.request().columns.clone(), 7) {
        values.fold(&batch);
    }
    Outcome::Answer(of_values(case, expected, &values.finish()))
}

fn unescaped(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
            out.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
        } else {
            out.push(b);
        }
    }
    String::from_utf8(out).unwrap()
}

fn ask(case: &Value, stored: &Stored, expected: &Value) -> Outcome {
    match case["api"].as_str().unwrap() {
        "search" => search(case, stored, expected),
        "query_range" | "query_instant" => metrics(case, stored, expected),
        "tags" | "tags_v2" => tags(case, stored, expected),
        "values" | "values_v2" => values(case, stored, expected),
        _ => Outcome::Elsewhere,
    }
}

/// What is wrong with what a case gave; `None` when it is not a matter of the language.
fn judged(case: &Value, stored: &Stored, expected: &Value) -> Option<Differences> {
    let nothing = serde_json::json!({"traces": [], "series": [], "scopes": {}, "tagNames": [], "tagValues": []});
    let error = expected.get("error");
    let shape = if error.is_some() { &nothing } else { expected };
    Some(match (ask(case, stored, shape), error) {
        (Outcome::Elsewhere, _) => return None,
        (Outcome::Refused(text), None) => vec![format!("refused: {text}")],
        (Outcome::Answer(differences), None) => differences,
        (Outcome::Answer(_), Some(error)) => vec![format!("answered, but {error} is wanted")],
        (Outcome::Refused(text), Some(error)) => {
            let has = error["has"].as_str().unwrap_or_default();
            let parses = !text.contains("parse error at");
            let class = match error["class"].as_str() {
                Some("parse") if case["api"] != "values_v2" => !parses,
                Some("validate" | "bad_request") => parses,
                _ => true,
            };
            if class && text.contains(has) && error["status"] == 400 {
                Vec::new()
            } else {
                vec![format!("refused so: {text}, but {error} is wanted")]
            }
        }
    })
}

#[test]
fn every_case_of_the_conformance_sets_is_answered() {
    let Some(folder) = shared::folder("conformance") else {
        return;
    };
    let sets = shared::folders(&folder);
    let named = |p: &&std::path::PathBuf| {
        p.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("traceql")
    };
    let mut failures = Vec::new();
    for set in sets.iter().filter(named) {
        let stored = stored(set);
        let cases = shared::json_lines(&set.join("cases.jsonl"));
        let (mut agree, mut elsewhere, mut odd) = (0, Vec::new(), Vec::new());
        for case in &cases {
            let id = case["id"].as_str().unwrap();
            let is_quirk = case["quirk"] == true;
            let mut differences = judged(case, &stored, &case["expected"]);
            if let (Some(some), Some(sane)) = (&differences, case.get("sane"))
                && !some.is_empty()
            {
                differences = judged(case, &stored, sane);
            }
            match differences {
                None => elsewhere.push(id),
                Some(d) if d.is_empty() => agree += 1,
                Some(d) if is_quirk => odd.push(format!("{id} {}: {}", case["query"], d[0])),
                Some(d) => failures.push(format!(
                    "{id} {} {}: {}",
                    case["api"],
                    case["query"],
                    d.join("\n    ")
                )),
            }
        }
        println!("{}: {agree} of {} agree", set.display(), cases.len());
        println!("  not of the language: {elsewhere:?}");
        for odd in odd {
            let odd: String = odd.chars().take(300).collect();
            println!("  not as the real one: {odd}");
        }
    }
    for failure in &failures {
        println!("{}", failure.chars().take(1_500).collect::<String>());
    }
    assert!(failures.is_empty(), "{} cases differ", failures.len());
}

#[test]
fn a_query_prints_as_what_it_parses_to() {
    let Some(folder) = shared::folder("conformance") else {
        return;
    };
    for set in shared::folders(&folder) {
        let file = set.join("cases.jsonl");
        if !set
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("traceql")
        {
            continue;
        }
        for case in shared::json_lines(&file) {
            let Ok(query) = parse(case["query"].as_str().unwrap_or_default()) else {
                continue;
            };
            let text = query.to_string();
            let again = parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(again.to_string(), text);
            assert_eq!(again, query, "{text}");
        }
    }
}

#[test]
fn wanted_columns_have_no_unscoped_attribute() {
    let query = parse("{ .a = 1 && trace:rootName = \"x\" } | rate() by (.b)").unwrap();
    let search = Search::new(&query, SearchSettings::default());
    let columns: &WantedColumns = &search.request().columns;
    assert!(columns.traces.root);
    assert!(columns.fields.iter().all(|f| f.columns() == [f.clone()]));
}
