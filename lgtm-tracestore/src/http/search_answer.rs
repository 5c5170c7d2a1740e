//! The answer to a search, as JSON and as protobuf.

use lgtm_core::codec::protobuf::{put_message, put_varint_field};

use super::json::{Members, push_search_metrics};
use super::protobuf::{put_attributes, put_number, put_search_metrics, put_text};
use crate::components::{Answered, QueryEnd};
use crate::traceql::{SetHit, SpanHit, TraceHit};

/// What a trace whose root did not come yet is called by.
const NO_ROOT: &str = "<root span not yet received>";

/// Whether an answer tells which spans passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SetsTold {
    All,
    /// As to searches by tags.
    None,
}

/// How searches are answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct SearchAnswer {
    pub(super) sets: SetsTold,
    /// Whether trace ids have 32 digits.
    pub(super) pads_trace_ids: bool,
}

impl SearchAnswer {
    pub(super) fn json(self, answered: &Answered<Vec<TraceHit>>) -> String {
        let mut out = String::new();
        let mut members = Members::open(&mut out);
        members.list("traces", &answered.value, |out, hit| {
            self.push_trace(out, hit)
        });
        push_search_metrics(members.name("metrics"), &answered.end);
        members.close();
        out
    }

    fn id(self, hit: &TraceHit) -> String {
        if self.pads_trace_ids {
            hit.id.to_string()
        } else {
            hit.id.short_hex()
        }
    }

    fn told(self, hit: &TraceHit) -> &[SetHit] {
        match self.sets {
            SetsTold::All => &hit.sets,
            SetsTold::None => &[],
        }
    }

    fn push_trace(self, out: &mut String, hit: &TraceHit) {
        let mut members = Members::open(out);
        members.text("traceID", &self.id(hit));
        members.text("rootServiceName", root_service(hit));
        members.text("rootTraceName", &hit.root_name);
        members.long("startTimeUnixNano", hit.start_ns);
        members.count("durationMs", duration_ms(hit));
        let sets = self.told(hit);
        if let Some(first) = sets.first() {
            push_set(members.name("spanSet"), first);
            members.list("spanSets", sets, push_set);
        }
        if !hit.services.is_empty() {
            let mut services = Members::open(members.name("serviceStats"));
            for service in &hit.services {
                let name = String::from_utf8_lossy(&service.name);
                let mut counts = Members::open(services.name(&name));
                counts.count("spanCount", service.spans.into());
                counts.count("errorCount", service.errors.into());
                counts.close();
            }
            services.close();
        }
        members.close();
    }

    /// `SearchResponse`
    pub(super) fn protobuf(self, answered: &Answered<Vec<TraceHit>>) -> Vec<u8> {
        let mut out = Vec::new();
        for hit in &answered.value {
            self.put_trace(&mut out, hit);
        }
        put_search_metrics(&mut out, 2, &answered.end);
        out
    }

    /// Field `traces` of `SearchResponse`.
    pub(super) fn put_trace(self, out: &mut Vec<u8>, hit: &TraceHit) {
        put_message(out, 1, |out| {
            put_text(out, 1, &self.id(hit));
            put_text(out, 2, root_service(hit));
            put_text(out, 3, &hit.root_name);
            put_number(out, 4, hit.start_ns);
            put_number(out, 5, duration_ms(hit));
            let sets = self.told(hit);
            if let Some(first) = sets.first() {
                put_message(out, 6, |out| put_set(out, first));
                for set in sets {
                    put_message(out, 7, |out| put_set(out, set));
                }
            }
            for service in &hit.services {
                put_message(out, 8, |out| {
                    put_text(out, 1, &String::from_utf8_lossy(&service.name));
                    put_message(out, 2, |out| {
                        put_number(out, 1, service.spans.into());
                        put_number(out, 2, service.errors.into());
                    });
                });
            }
        });
    }
}

/// A message that tells how far a search is, and nothing else.
pub(super) fn put_search_end(out: &mut Vec<u8>, end: &QueryEnd) {
    put_search_metrics(out, 2, end);
}

fn root_service(hit: &TraceHit) -> &str {
    match hit.root_service.as_str() {
        "" => NO_ROOT,
        service => service,
    }
}

fn duration_ms(hit: &TraceHit) -> u64 {
    (hit.duration_ns / 1_000_000).min(u32::MAX.into())
}

fn span_ns(span: &SpanHit) -> u64 {
    u64::try_from(span.duration_ns).unwrap_or(0)
}

fn push_set(out: &mut String, set: &SetHit) {
    let mut members = Members::open(out);
    if !set.spans.is_empty() {
        members.list("spans", &set.spans, |out, span| {
            let mut members = Members::open(out);
            members.text("spanID", &span.id.to_string());
            members.text("name", span.name.as_deref().unwrap_or_default());
            members.long("startTimeUnixNano", span.start_ns);
            members.long("durationNanos", span_ns(span));
            members.attributes("attributes", &span.attributes);
            members.close();
        });
    }
    members.count("matched", set.matched);
    members.attributes("attributes", &set.attributes);
    members.close();
}

/// `SpanSet`
fn put_set(out: &mut Vec<u8>, set: &SetHit) {
    for span in &set.spans {
        put_message(out, 1, |out| {
            put_text(out, 1, &span.id.to_string());
            put_text(out, 2, span.name.as_deref().unwrap_or_default());
            put_number(out, 3, span.start_ns);
            put_number(out, 4, span_ns(span));
            put_attributes(out, 5, &span.attributes);
        });
    }
    if set.matched > 0 {
        put_varint_field(out, 2, set.matched.min(u32::MAX.into()));
    }
    put_attributes(out, 3, &set.attributes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::ServiceCount;
    use crate::trace::{SpanId, TraceId};
    use crate::traceql::AnswerValue;

    fn hit() -> TraceHit {
        TraceHit {
            id: TraceId::from_hex("1a2b").unwrap(),
            root_service: String::new(),
            root_name: "GET /".into(),
            start_ns: 5,
            duration_ns: 12_999_999,
            services: vec![ServiceCount {
                name: b"a\"b".to_vec(),
                spans: 3,
                errors: 0,
            }],
            sets: vec![SetHit {
                matched: 3,
                spans: vec![SpanHit {
                    id: SpanId::new([0, 0, 0, 0, 0, 0, 0, 9]),
                    name: None,
                    start_ns: 6,
                    duration_ns: -4,
                    attributes: vec![
                        ("n".into(), AnswerValue::Int(0)),
                        ("f".into(), AnswerValue::Float(1.5)),
                        ("b".into(), AnswerValue::Bool(false)),
                    ],
                }],
                attributes: vec![("count()".into(), AnswerValue::Int(3))],
            }],
        }
    }

    #[test]
    fn zeros_are_left_out_and_values_are_not() {
        let answered = Answered {
            value: vec![hit()],
            end: QueryEnd {
                total_jobs: 1,
                completed_jobs: 1,
                ..QueryEnd::default()
            },
        };
        let set = r#"{"spans":[{"spanID":"0000000000000009","startTimeUnixNano":"6","attributes":[{"key":"n","value":{"intValue":"0"}},{"key":"f","value":{"doubleValue":1.5}},{"key":"b","value":{"boolValue":false}}]}],"matched":3,"attributes":[{"key":"count()","value":{"intValue":"3"}}]}"#;
        let wanted = format!(
            r#"{{"traces":[{{"traceID":"1a2b","rootServiceName":"<root span not yet received>","rootTraceName":"GET /","startTimeUnixNano":"5","durationMs":12,"spanSet":{set},"spanSets":[{set}],"serviceStats":{{"a\"b":{{"spanCount":3}}}}}}],"metrics":{{"completedJobs":1,"totalJobs":1}}}}"#
        );
        let answer = SearchAnswer {
            sets: SetsTold::All,
            pads_trace_ids: false,
        };
        assert_eq!(answer.json(&answered), wanted);
        let bare = SearchAnswer {
            sets: SetsTold::None,
            pads_trace_ids: true,
        };
        let json = bare.json(&answered);
        assert!(json.contains(r#""traceID":"00000000000000000000000000001a2b""#));
        assert!(!json.contains("spanSet"));
        let none = Answered::default();
        assert_eq!(answer.json(&none), r#"{"traces":[],"metrics":{}}"#);
    }
}
