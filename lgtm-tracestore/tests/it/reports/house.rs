//! Spans to be sent, and a store in each state that they go through.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::door::{Door, DoorParts, NOW_S, SECOND};

/// A span to be sent: of trace 1, a minute old, a second long, of service `shop`.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) trace: u64,
    pub(crate) id: u64,
    pub(crate) start_ns: u64,
    pub(crate) length_ns: u64,
    resource: Value,
    scope: Value,
    span: Value,
}

/// A value as OTLP has it.
pub(crate) fn any(value: &Value) -> Value {
    match value {
        Value::String(text) => json!({"stringValue": text}),
        Value::Bool(v) => json!({"boolValue": v}),
        Value::Number(n) if n.is_f64() => json!({"doubleValue": n}),
        Value::Number(n) => json!({"intValue": n.to_string()}),
        Value::Array(all) => {
            json!({"arrayValue": {"values": all.iter().map(any).collect::<Value>()}})
        }
        Value::Object(_) | Value::Null => json!({}),
    }
}

fn pairs(attributes: &Value) -> Value {
    let pairs = attributes.as_object().into_iter().flatten();
    pairs
        .map(|(key, value)| json!({"key": key, "value": any(value)}))
        .collect()
}

/// A span without anything but a name.
pub(crate) fn span(id: u64, name: &str) -> Sent {
    Sent {
        trace: 1,
        id,
        start_ns: (NOW_S - 60) * SECOND,
        length_ns: SECOND,
        resource: json!({"service.name": "shop"}),
        scope: json!({"name": "lib"}),
        span: json!({"name": name}),
    }
}

impl Sent {
    pub(crate) fn trace(mut self, n: u64) -> Self {
        self.trace = n;
        self
    }

    pub(crate) fn under(self, parent: u64) -> Self {
        self.with("parentSpanId", json!(format!("{parent:016x}")))
    }

    pub(crate) fn of(mut self, service: &str) -> Self {
        self.resource["service.name"] = service.into();
        self
    }

    /// Attributes of the resource beside the service's name.
    pub(crate) fn resource(mut self, attributes: &Value) -> Self {
        for (key, value) in attributes.as_object().unwrap() {
            self.resource[key] = value.clone();
        }
        self
    }

    pub(crate) fn scope(mut self, attributes: &Value) -> Self {
        self.scope["attributes"] = pairs(attributes);
        self
    }

    pub(crate) fn attributes(self, attributes: &Value) -> Self {
        self.with("attributes", pairs(attributes))
    }

    /// How long before now it begins, and how long it takes, milliseconds.
    pub(crate) fn at(mut self, ago_ms: u64, length_ms: u64) -> Self {
        self.start_ns = NOW_S * SECOND - ago_ms * 1_000_000;
        self.length_ns = length_ms * 1_000_000;
        self
    }

    pub(crate) fn status(self, code: u8) -> Self {
        self.with("status", json!({"code": code}))
    }

    pub(crate) fn event(mut self, name: &str, attributes: &Value) -> Self {
        let event = json!({"name": name, "timeUnixNano": self.start_ns.to_string(), "attributes": pairs(attributes)});
        match self.span["events"].as_array_mut() {
            Some(events) => events.push(event),
            None => self.span["events"] = json!([event]),
        }
        self
    }

    /// Any member of OTLP's JSON.
    pub(crate) fn with(mut self, key: &str, value: Value) -> Self {
        self.span[key] = value;
        self
    }

    fn resource_spans(&self) -> Value {
        let mut span = self.span.clone();
        span["traceId"] = format!("{:032x}", self.trace).into();
        span["spanId"] = format!("{:016x}", self.id).into();
        span["startTimeUnixNano"] = self.start_ns.to_string().into();
        span["endTimeUnixNano"] = (self.start_ns + self.length_ns).to_string().into();
        json!({
            "resource": {"attributes": pairs(&self.resource)},
            "scopeSpans": [{"scope": self.scope, "spans": [span]}],
        })
    }
}

/// OTLP in JSON.
pub(crate) fn otlp(spans: &[Sent]) -> Value {
    json!({"resourceSpans": spans.iter().map(Sent::resource_spans).collect::<Value>()})
}

/// Stores that the same spans were sent to, and that went on with them.
pub(crate) struct House {
    /// What became of the spans, and the store.
    pub(crate) doors: Vec<(&'static str, Door)>,
}

impl House {
    pub(crate) async fn of(spans: &[Sent]) -> Self {
        Self::with(DoorParts::default, spans).await
    }

    /// The spans live; in a block; in two blocks, each with some of the traces' parts; half live and half in a block; in two blocks that were joined.
    pub(crate) async fn with(parts: impl Fn() -> DoorParts, spans: &[Sent]) -> Self {
        let mut doors = Vec::new();
        for state in ["live", "flushed", "two blocks", "half flushed", "compacted"] {
            let door = Door::with(parts()).await;
            let halves = match state {
                "live" | "flushed" => 1,
                _ => 2,
            };
            let each = spans.len().div_ceil(halves).max(1);
            for (n, part) in spans.chunks(each).enumerate() {
                door.push(&otlp(part)).await;
                if state != "live" && !(state == "half flushed" && n == 1) {
                    door.store.flush().await.unwrap();
                }
            }
            if state == "compacted" {
                door.store.compact().await.unwrap();
            }
            doors.push((state, door));
        }
        Self { doors }
    }

    /// Asks every store; they must agree.
    async fn agreed<T: PartialEq + std::fmt::Debug>(
        &self,
        what: &str,
        ask: impl AsyncFn(&Door) -> T,
    ) -> T {
        let (first_state, first) = &self.doors[0];
        let answer = ask(first).await;
        for (state, door) in &self.doors[1..] {
            assert_eq!(ask(door).await, answer, "{state} and {first_state}: {what}");
        }
        answer
    }

    /// The traces that a search finds, and the numbers of the spans that it matches.
    pub(crate) async fn search(&self, query: &str) -> BTreeMap<u64, Vec<u64>> {
        self.agreed(query, async |door| spans_of(&search(door, query).await))
            .await
    }

    /// The numbers of the spans that a search matches, of all traces.
    pub(crate) async fn found(&self, query: &str) -> Vec<u64> {
        let mut spans: Vec<u64> = self.search(query).await.into_values().flatten().collect();
        spans.sort_unstable();
        spans
    }

    /// An answer to a search that is refused.
    pub(crate) async fn refused(&self, query: &str) -> String {
        self.agreed(query, async |door| {
            let answer = door.get("/api/search", &[("q", query)]).await;
            assert_eq!(answer.status, 400, "{query}: {}", answer.text());
            answer.text()
        })
        .await
    }

    /// The series of a query over the last ten minutes as one interval: labels, value.
    pub(crate) async fn series(&self, query: &str) -> BTreeMap<String, f64> {
        self.agreed(query, async |door| instant(door, query).await)
            .await
    }

    /// What the points of each series of a range query add up to.
    pub(crate) async fn sums(&self, query: &str, step: &str) -> BTreeMap<String, f64> {
        self.agreed(query, async |door| {
            let json = range(door, query, &[("step", step)]).await;
            let series = json["series"].as_array().unwrap().iter();
            series
                .map(|s| {
                    let samples = s["samples"].as_array().unwrap().iter();
                    let sum = samples.map(|p| p["value"].as_f64().unwrap_or(0.0)).sum();
                    (labels(s), sum)
                })
                .collect()
        })
        .await
    }
}

/// The whole answer to a search, with all spans.
pub(crate) async fn search(door: &Door, query: &str) -> Value {
    let params = [("q", query), ("limit", "1000"), ("spss", "100")];
    let answer = door.get("/api/search", &params).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    answer.json()
}

/// Spans of an answer by trace.
pub(crate) fn spans_of(answer: &Value) -> BTreeMap<u64, Vec<u64>> {
    let number = |v: &Value| u64::from_str_radix(v.as_str().unwrap(), 16).unwrap();
    let traces = answer["traces"].as_array().unwrap().iter();
    traces
        .map(|trace| {
            let sets = trace["spanSets"].as_array().into_iter().flatten();
            let spans = sets.flat_map(|set| set["spans"].as_array().into_iter().flatten());
            let mut ids: Vec<u64> = spans.map(|s| number(&s["spanID"])).collect();
            ids.sort_unstable();
            (number(&trace["traceID"]), ids)
        })
        .collect()
}

/// The answer to a range query over the last ten minutes.
pub(crate) async fn range(door: &Door, query: &str, more: &[(&str, &str)]) -> Value {
    let (start, end) = ((NOW_S - 600).to_string(), NOW_S.to_string());
    let mut params = vec![
        ("q", query),
        ("start", start.as_str()),
        ("end", end.as_str()),
    ];
    params.extend(more);
    let answer = door.get("/api/metrics/query_range", &params).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    answer.json()
}

/// Series of an instant query over the last ten minutes.
pub(crate) async fn instant(door: &Door, query: &str) -> BTreeMap<String, f64> {
    let (start, end) = ((NOW_S - 600).to_string(), NOW_S.to_string());
    let params = [
        ("q", query),
        ("start", start.as_str()),
        ("end", end.as_str()),
    ];
    let answer = door.get("/api/metrics/query", &params).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    let json = answer.json();
    let series = json["series"].as_array().into_iter().flatten();
    series
        .map(|s| (labels(s), s["value"].as_f64().unwrap_or(0.0)))
        .collect()
}

/// Labels of a series as one text.
pub(crate) fn labels(series: &Value) -> String {
    let pairs = series["labels"].as_array().into_iter().flatten();
    let pairs = pairs.map(|pair| {
        let value = pair["value"].as_object().unwrap().values().next().unwrap();
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        format!("{}={text}", pair["key"].as_str().unwrap())
    });
    pairs.collect::<Vec<_>>().join(",")
}

/// Text values of a tag.
pub(crate) async fn values(door: &Door, tag: &str, q: &str) -> Vec<String> {
    let path = format!("/api/v2/search/tag/{tag}/values");
    let answer = door.get(&path, &[("q", q)]).await;
    assert_eq!(answer.status, 200, "{tag} {q}: {}", answer.text());
    let json = answer.json();
    let values = json["tagValues"].as_array().into_iter().flatten();
    values
        .map(|v| v["value"].as_str().unwrap().to_owned())
        .collect()
}

/// No span, no trace.
pub(crate) const NONE: [u64; 0] = [];
