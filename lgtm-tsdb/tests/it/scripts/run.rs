//! Running the commands of a script.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use lgtm_core::exec::Executor;
use lgtm_core::model::{Labels, TenantId, TimestampMs};
use lgtm_tsdb::promql::{
    Answer, AtModifier, Engine, EngineSettings, Expr, ParserOptions, Query, QueryError, QueryValue,
    Series, parse_with,
};

use super::backend::{Backend, Data, Store};
use super::compare::{at, floats, is_sorted, items};
use super::load::{Item, SeriesLine, Values};
use super::script::{CommandKind, Eval, Expected, Notes, When, parse};

/// What became of the cases of a file.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) passed: usize,
    /// Line and reason.
    pub(crate) failed: Vec<(usize, String)>,
}

/// Runs a script on a backend. `language` tells what is on.
pub(crate) async fn run_file(path: &Path, backend: Backend, language: &EngineSettings) -> Outcome {
    let settings = EngineSettings {
        timeout: Duration::from_secs(100),
        max_samples: 10_000,
        ..language.clone()
    };
    let text = std::fs::read_to_string(path).unwrap();
    let commands = match parse(&text) {
        Ok(commands) => commands,
        Err(e) => panic!("{}: {e}", path.display()),
    };
    let mut out = Outcome::default();
    let mut data = Data::new();
    let mut store: Option<Store> = None;
    for c in commands {
        match c.kind {
            CommandKind::Clear => {
                data.clear();
                store = None;
            }
            CommandKind::Load(load) => {
                let loaded = load
                    .samples()
                    .unwrap_or_else(|e| panic!("line {}: {e}", c.line));
                for (labels, samples) in loaded {
                    data.entry(labels).or_default().extend(samples);
                }
                store = None;
            }
            CommandKind::Eval(eval) => {
                if store.is_none() {
                    store = Some(Store::build(backend, &data).await);
                }
                let source = store.as_ref().unwrap().source.clone();
                let executor = Executor::inline(tokio::runtime::Handle::current());
                let engine = Engine::builder(source, executor)
                    .settings(settings.clone())
                    .build()
                    .unwrap();
                match case(&engine, &eval).await {
                    Ok(()) => out.passed += 1,
                    Err(why) => out
                        .failed
                        .push((c.line, format!("{}\n      {why}", eval.query))),
                }
            }
        }
    }
    out
}

async fn instant(engine: &Engine, query: &str, t_ms: i64) -> Result<Answer, QueryError> {
    let query = Query::instant(query, t_ms, &engine.settings().parser)?;
    engine.query(&TenantId::anonymous(), &query).await
}

async fn range(
    engine: &Engine,
    query: &str,
    (start_ms, end_ms, step_ms): (i64, i64, i64),
) -> Result<Answer, QueryError> {
    let parser = &engine.settings().parser;
    let query = Query::range(query, start_ms..=end_ms, step_ms, parser)?;
    engine.query(&TenantId::anonymous(), &query).await
}

async fn case(engine: &Engine, eval: &Eval) -> Result<(), String> {
    let parsed = parse_with(&eval.query, &ParserOptions::everything())
        .map_err(|e| format!("does not parse: {e}"))?;
    match eval.when {
        When::Range { start, end, step } => {
            let answer = range(engine, &eval.query, (start, end, step)).await;
            let Some(answer) = checked(eval, answer)? else {
                return Ok(());
            };
            let QueryValue::Matrix(series) = &answer.value else {
                return Err(format!("not a matrix: {:?}", answer.value));
            };
            if !is_sorted(series) {
                return Err("not sorted by labels".into());
            }
            let times: Vec<i64> = (0..)
                .map(|n| start + n * step)
                .take_while(|t| *t <= end)
                .collect();
            matrix(eval, series, &times)
        }
        When::Instant(t) => {
            one_instant(engine, eval, &eval.query, t, t).await?;
            let Some(pinned) = pinned(&parsed, t) else {
                return Ok(());
            };
            let times = match t {
                0 => [-1000, 0, 1000].to_vec(),
                t => vec![-10 * t, 0, t / 5, t, 10 * t],
            };
            for at in times {
                one_instant(engine, eval, &pinned, at, at)
                    .await
                    .map_err(|e| format!("as {pinned} at {at} ms: {e}"))?;
            }
            Ok(())
        }
    }
}

/// Checks failure and annotations; the answer if there must be one.
fn checked(eval: &Eval, answer: Result<Answer, QueryError>) -> Result<Option<Answer>, String> {
    match (answer, &eval.fail) {
        (Err(e), Some(text)) if text.fits(&e.to_string()) => Ok(None),
        (Err(e), Some(text)) => Err(format!("failed with {e} rather than {text:?}")),
        (Err(e), None) => Err(format!("failed: {e}")),
        (Ok(a), Some(_)) => Err(format!("did not fail but gave {:?}", a.value)),
        (Ok(a), None) => {
            notes("warning", &eval.warn, &a.warnings)?;
            notes("info", &eval.info, &a.infos)?;
            Ok(Some(a))
        }
    }
}

fn notes(kind: &str, wanted: &Notes, found: &[String]) -> Result<(), String> {
    if wanted.none && !found.is_empty() {
        return Err(format!("no {kind} expected, got {found:?}"));
    }
    if wanted.some.is_empty() {
        return Ok(());
    }
    if found.is_empty() {
        return Err(format!("no {kind}, expected {:?}", wanted.some));
    }
    for w in &wanted.some {
        if !found.iter().any(|f| w.fits(f)) {
            return Err(format!("no {kind} like {w:?} among {found:?}"));
        }
    }
    match found
        .iter()
        .find(|f| !wanted.some.iter().any(|w| w.fits(f)))
    {
        Some(f) => Err(format!("unexpected {kind} {f:?}")),
        None => Ok(()),
    }
}

async fn one_instant(
    engine: &Engine,
    eval: &Eval,
    query: &str,
    t: i64,
    at_ms: i64,
) -> Result<(), String> {
    let Some(answer) = checked(eval, instant(engine, query, at_ms).await)? else {
        return Ok(());
    };
    match (&answer.value, &eval.expected) {
        (QueryValue::Matrix(series), _) => {
            let Some((start, end, step)) = eval.range_vector else {
                return Err("a matrix, and no range vector is expected".into());
            };
            let times: Vec<i64> = (0..)
                .map(|n| start + n * step)
                .take_while(|t| *t <= end)
                .collect();
            return matrix(eval, series, &times);
        }
        (QueryValue::Text(p), Expected::Text(wanted)) => {
            return if p.value == *wanted {
                Ok(())
            } else {
                Err(format!("string {:?}, expected {wanted:?}", p.value))
            };
        }
        (QueryValue::Scalar(p), Expected::Scalar(wanted)) => {
            if !floats(p.value, *wanted) {
                return Err(format!("scalar {}, expected {wanted}", p.value));
            }
        }
        (QueryValue::Vector(series), Expected::Series(lines)) => {
            vector(lines, series, t, eval.ordered)?
        }
        (value, wanted) => return Err(format!("{value:?}, expected {wanted:?}")),
    }
    let lower = query.to_lowercase();
    let dependent = ["start()", "end()", "step()", "range()"]
        .iter()
        .any(|w| lower.contains(w));
    if dependent || eval.range_vector.is_some() {
        return Ok(());
    }
    around(engine, eval, query, at_ms)
        .await
        .map_err(|e| format!("as a range query around {at_ms} ms: {e}"))
}

/// The same as a range query from a minute before to a minute after.
async fn around(engine: &Engine, eval: &Eval, query: &str, t: i64) -> Result<(), String> {
    let answer = range(engine, query, (t - 60_000, t + 60_000, 60_000)).await;
    let answer = answer.map_err(|e| format!("failed: {e}"))?;
    let QueryValue::Matrix(series) = &answer.value else {
        return Err("not a matrix".into());
    };
    if !is_sorted(series) {
        return Err("not sorted by labels".into());
    }
    if eval.ordered {
        return Ok(());
    }
    match &eval.expected {
        Expected::Series(lines) => vector(lines, series, t, false),
        Expected::Scalar(wanted) => match series.first().and_then(|s| at(s, t)) {
            Some(Item::Float(v)) if floats(v, *wanted) => Ok(()),
            other => Err(format!("scalar {other:?}, expected {wanted}")),
        },
        Expected::Text(_) => Ok(()),
    }
}

fn vector(lines: &[SeriesLine], series: &[Series], t: i64, ordered: bool) -> Result<(), String> {
    let found: Vec<(&Labels, Item)> = series
        .iter()
        .filter_map(|s| Some((&s.labels, at(s, t)?)))
        .collect();
    let mut by_labels: BTreeMap<&Labels, (usize, &Item)> = BTreeMap::new();
    for (place, (labels, item)) in found.iter().enumerate() {
        if by_labels.insert(labels, (place, item)).is_some() {
            return Err(format!("{labels} stands twice"));
        }
    }
    for (place, line) in lines.iter().enumerate() {
        let wanted = match line.values.as_slice() {
            [Some(item)] => item,
            other => return Err(format!("{} has {other:?} for an instant", line.labels)),
        };
        let Some((at, item)) = by_labels.remove(&line.labels) else {
            return Err(format!("{} is missing; there is {found:?}", line.labels));
        };
        if ordered && at != place {
            return Err(format!(
                "{} stands at place {at}, expected {place}",
                line.labels
            ));
        }
        if !items(wanted, item) {
            return Err(format!("{}: {item:?}, expected {wanted:?}", line.labels));
        }
    }
    match by_labels.into_iter().next() {
        Some((labels, (_, item))) => Err(format!("unexpected {labels} {item:?}")),
        None => Ok(()),
    }
}

fn matrix(eval: &Eval, series: &[Series], times: &[i64]) -> Result<(), String> {
    let lines: Vec<(Labels, Values)> = match &eval.expected {
        Expected::Series(lines) => lines
            .iter()
            .map(|l| (l.labels.clone(), l.values.clone()))
            .collect(),
        Expected::Scalar(v) => vec![(Labels::empty(), vec![Some(Item::Float(*v)); times.len()])],
        Expected::Text(_) => return Err("a matrix, expected a string".into()),
    };
    let mut by_labels: BTreeMap<&Labels, &Series> = BTreeMap::new();
    for s in series {
        if by_labels.insert(&s.labels, s).is_some() {
            return Err(format!("{} stands twice", s.labels));
        }
    }
    for (labels, values) in &lines {
        if values.len() > times.len() {
            return Err(format!(
                "{labels}: {} values for {} steps",
                values.len(),
                times.len()
            ));
        }
        let wanted: Vec<(i64, &Item)> = times
            .iter()
            .zip(values)
            .filter_map(|(t, v)| Some((*t, v.as_ref()?)))
            .collect();
        let Some(s) = by_labels.remove(labels) else {
            if wanted.is_empty() {
                continue;
            }
            return Err(format!(
                "{labels} is missing; there are {:?}",
                series.iter().map(|s| &s.labels).collect::<Vec<_>>()
            ));
        };
        if s.len() != wanted.len() {
            return Err(format!(
                "{labels}: {} points, expected {}: {s:?}",
                s.len(),
                wanted.len()
            ));
        }
        for (t, item) in wanted {
            match at(s, t) {
                Some(found) if items(item, &found) => {}
                found => return Err(format!("{labels} at {t}: {found:?}, expected {item:?}")),
            }
        }
    }
    match by_labels.into_iter().next() {
        Some((labels, s)) => Err(format!("unexpected {labels} {s:?}")),
        None => Ok(()),
    }
}

/// Functions whose result depends on when they are run.
const TIMELY: [&str; 15] = [
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "hour",
    "minute",
    "month",
    "year",
    "time",
    "timestamp",
    "predict_linear",
    "start",
    "end",
    "step",
    "range",
];

/// The query with `@ t` on everything that has no `@`; `None` when that would change what it means.
fn pinned(expr: &Expr, t_ms: i64) -> Option<String> {
    if is_timely(expr) {
        return None;
    }
    let mut expr = expr.clone();
    pin(&mut expr, t_ms);
    Some(expr.to_string())
}

/// Whether such a function stands outside of subqueries.
fn is_timely(expr: &Expr) -> bool {
    match expr {
        Expr::Subquery(_) => false,
        Expr::Call(c) if TIMELY.contains(&c.function.name) => true,
        other => other.children().into_iter().any(is_timely),
    }
}

fn pin(expr: &mut Expr, t_ms: i64) {
    let at = |at: &mut Option<AtModifier>| {
        at.get_or_insert(AtModifier::Time(TimestampMs::new(t_ms)));
    };
    match expr {
        Expr::Vector(s) => at(&mut s.at),
        Expr::Matrix(m) => at(&mut m.vector.at),
        // What is inside is left alone.
        Expr::Subquery(s) => at(&mut s.at),
        other => other.children_mut().into_iter().for_each(|c| pin(c, t_ms)),
    }
}
