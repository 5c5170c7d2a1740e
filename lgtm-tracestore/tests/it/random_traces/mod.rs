//! Random traces and random queries over them.

use lgtm_core::testing::Dice;
use lgtm_tracestore::traceql::{Query, parse};
use serde_json::{Value, json};

pub(crate) fn one_of<'a>(dice: &mut Dice, all: &[&'a str]) -> &'a str {
    all[dice.below(all.len() as u64) as usize]
}

pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];
pub(crate) const TEXTS: [&str; 4] = ["x", "y", "xy", ""];

pub(crate) fn any_value(dice: &mut Dice) -> Value {
    let text = |dice: &mut Dice| json!({"stringValue": one_of(dice, &TEXTS)});
    match dice.below(8) {
        0 | 1 => text(dice),
        2 | 3 => json!({"intValue": dice.below(4)}),
        4 => json!({"doubleValue": dice.below(8) as f64 / 2.0}),
        5 => json!({"boolValue": dice.once_in(2)}),
        6 => {
            let items: Vec<Value> = (0..dice.below(3)).map(|_| text(dice)).collect();
            json!({"arrayValue": {"values": items}})
        }
        _ => json!({"kvlistValue": {"values": []}}),
    }
}

pub(crate) fn attributes(dice: &mut Dice) -> Value {
    let mut out = Vec::new();
    for name in NAMES {
        if dice.once_in(2) {
            out.push(json!({"key": name, "value": any_value(dice)}));
        }
    }
    Value::Array(out)
}

/// A trace of a few spans: a forest, sometimes with parents that are not there.
pub(crate) fn trace(dice: &mut Dice, number: u64) -> Value {
    let count = 1 + dice.below(7);
    let id = |n: u64| format!("{:016x}", number * 100 + n + 1);
    let mut resources = Vec::new();
    let mut spans = Vec::new();
    for n in 0..count {
        let parent = match dice.below(8) {
            0 => String::new(),
            1 => id(90),
            _ if n == 0 => String::new(),
            _ => id(dice.below(n)),
        };
        let start = 1_000_000_000_000 + dice.below(50) * 100_000_000;
        let events: Vec<Value> = (0..dice.below(3))
            .map(|_| {
                json!({"name": one_of(dice, &TEXTS), "timeUnixNano": (start + dice.below(3)).to_string(),
                    "attributes": attributes(dice)})
            })
            .collect();
        let links: Vec<Value> = (0..dice.below(3))
            .map(|_| json!({"traceId": "0a".repeat(16), "spanId": id(dice.below(4)), "attributes": attributes(dice)}))
            .collect();
        spans.push(json!({
            "traceId": format!("{:032x}", number + 1), "spanId": id(n), "parentSpanId": parent,
            "name": one_of(dice, &TEXTS), "kind": dice.below(4), "status": {"code": dice.below(3)},
            "startTimeUnixNano": start.to_string(), "endTimeUnixNano": (start + dice.below(4) * 1_000).to_string(),
            "attributes": attributes(dice), "events": events, "links": links,
        }));
        if dice.once_in(3) || n + 1 == count {
            resources.push(json!({
                "resource": {"attributes": attributes(dice)},
                "scopeSpans": [{"scope": {"name": one_of(dice, &TEXTS), "attributes": attributes(dice)}, "spans": spans}],
            }));
            spans = Vec::new();
        }
    }
    json!({"resourceSpans": resources})
}

pub(crate) fn field(dice: &mut Dice) -> String {
    match dice.below(8) {
        0 => one_of(
            dice,
            &[
                "name",
                "duration",
                "statusMessage",
                "rootName",
                "traceDuration",
                "span:parentID",
            ],
        )
        .to_owned(),
        1 => one_of(
            dice,
            &[
                "event:name",
                "event:timeSinceStart",
                "link:spanID",
                "instrumentation:name",
            ],
        )
        .to_owned(),
        _ => {
            let scope = one_of(
                dice,
                &[
                    "",
                    "span",
                    "span",
                    "resource",
                    "event",
                    "event",
                    "link",
                    "instrumentation",
                ],
            );
            format!("{scope}.{}", one_of(dice, &NAMES))
        }
    }
}

pub(crate) fn literal(dice: &mut Dice) -> String {
    match dice.below(7) {
        0 | 1 => format!("{:?}", one_of(dice, &TEXTS)),
        2 | 3 => dice.below(4).to_string(),
        4 => format!("{:?}", dice.below(8) as f64 / 2.0),
        5 => one_of(dice, &["true", "false"]).to_owned(),
        _ => format!("{}us", dice.below(4)),
    }
}

pub(crate) fn expression(dice: &mut Dice, depth: u64) -> String {
    if depth > 0 && !dice.once_in(3) {
        let (a, b) = (expression(dice, depth - 1), expression(dice, depth - 1));
        return match dice.below(5) {
            0 => format!("!({a})"),
            1 | 2 => format!("({a}) || ({b})"),
            _ => format!("({a}) && ({b})"),
        };
    }
    let field_text = field(dice);
    let sign = one_of(dice, &["=", "!=", "=", "!=", "<", "<=", ">", ">="]);
    match dice.below(12) {
        0 => format!(
            "{field_text} =~ \"{}\"",
            one_of(dice, &["x", "x.*", ".*y", "x.*y"])
        ),
        1 => format!(
            "{field_text} !~ \"{}\"",
            one_of(dice, &["x", "x.*", ".*y", "x.*y"])
        ),
        2 => format!("{field_text} != nil"),
        3 => format!("{field_text} = nil"),
        4 => format!("{field_text} {sign} {}", field(dice)),
        5 => format!("{field_text} + {} {sign} {}", field(dice), literal(dice)),
        6 => field_text,
        7 => format!(
            "kind {} {}",
            one_of(dice, &["=", "!="]),
            one_of(dice, &["server", "client", "internal"])
        ),
        8 => format!(
            "status {} {}",
            one_of(dice, &["=", "!="]),
            one_of(dice, &["ok", "error", "unset"])
        ),
        9 => format!("{field_text} * 2 {sign} {}", literal(dice)),
        _ => format!("{field_text} {sign} {}", literal(dice)),
    }
}

pub(crate) fn spanset(dice: &mut Dice, depth: u64) -> String {
    if depth > 0 && dice.once_in(2) {
        let op = one_of(
            dice,
            &[
                "&&", "||", ">", "<", ">>", "<<", "~", "!>", "!<", "!>>", "!<<", "!~", "&>", "&<",
                "&>>", "&<<", "&~",
            ],
        );
        return format!(
            "({}) {op} ({})",
            spanset(dice, depth - 1),
            spanset(dice, depth - 1)
        );
    }
    format!("{{ {} }}", expression(dice, 2))
}

/// A query of random text that passes the type check.
pub(crate) fn random_query(dice: &mut Dice, depth: u64) -> Query {
    loop {
        if let Ok(query) = parse(&spanset(dice, depth)) {
            return query;
        }
    }
}
