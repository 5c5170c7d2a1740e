//! Which leaf of a file holds what: leaves by path, whatever their order, whatever is missing.

use std::collections::HashMap;

use crate::schema::layout::KNOWN_RESOURCE;

/// Number of a leaf in its file.
pub type LeafIndex = usize;

/// The leaves of a list of attributes. `None`: the file has none.
#[derive(Debug, Clone, Default)]
pub struct AttributeLeaves {
    /// Keys.
    pub key: Option<LeafIndex>,
    /// Whether the value is an array.
    pub is_array: Option<LeafIndex>,
    /// Texts. In events of version 3: values as protobuf.
    pub text: Option<LeafIndex>,
    /// Integers.
    pub int: Option<LeafIndex>,
    /// Floats.
    pub double: Option<LeafIndex>,
    /// Booleans.
    pub boolean: Option<LeafIndex>,
    /// Values that have no column, as JSON.
    pub unsupported: Option<LeafIndex>,
    /// Version 3: maps as JSON.
    pub map_json: Option<LeafIndex>,
    /// Version 3: arrays as JSON.
    pub array_json: Option<LeafIndex>,
}

/// The columns of attributes that have their own.
#[derive(Debug, Clone, Default)]
pub struct DedicatedLeaves {
    /// Texts by slot.
    pub text: Vec<Option<LeafIndex>>,
    /// Integers by slot.
    pub int: Vec<Option<LeafIndex>>,
}

/// The leaves of events.
#[derive(Debug, Clone, Default)]
pub struct EventLeaves {
    /// Version 3: nanoseconds since the epoch.
    pub time: Option<LeafIndex>,
    /// Nanoseconds since the span's start.
    pub since_start: Option<LeafIndex>,
    /// Names.
    pub name: Option<LeafIndex>,
    /// Attributes.
    pub attributes: AttributeLeaves,
    /// Attributes that the sender left out.
    pub dropped: Option<LeafIndex>,
    /// Attributes with columns of their own.
    pub dedicated: DedicatedLeaves,
}

/// The leaves of links.
#[derive(Debug, Clone, Default)]
pub struct LinkLeaves {
    /// Traces.
    pub trace_id: Option<LeafIndex>,
    /// Spans.
    pub span_id: Option<LeafIndex>,
    /// Trace states.
    pub trace_state: Option<LeafIndex>,
    /// Attributes.
    pub attributes: AttributeLeaves,
    /// Attributes that the sender left out.
    pub dropped: Option<LeafIndex>,
    /// Version 3: all links of a span as protobuf.
    pub encoded: Option<LeafIndex>,
}

/// The leaves of spans.
#[derive(Debug, Clone, Default)]
#[allow(
    missing_docs,
    reason = "named like the columns, which the format's page explains"
)]
pub struct SpanLeaves {
    pub span_id: Option<LeafIndex>,
    pub parent_span_id: Option<LeafIndex>,
    pub parent: Option<LeafIndex>,
    pub nested_left: Option<LeafIndex>,
    pub nested_right: Option<LeafIndex>,
    pub child_count: Option<LeafIndex>,
    pub name: Option<LeafIndex>,
    pub kind: Option<LeafIndex>,
    pub trace_state: Option<LeafIndex>,
    pub start: Option<LeafIndex>,
    pub duration: Option<LeafIndex>,
    pub status_code: Option<LeafIndex>,
    pub status_message: Option<LeafIndex>,
    pub attributes: AttributeLeaves,
    pub dropped_attributes: Option<LeafIndex>,
    pub dropped_events: Option<LeafIndex>,
    pub dropped_links: Option<LeafIndex>,
    pub http_method: Option<LeafIndex>,
    pub http_url: Option<LeafIndex>,
    pub http_status_code: Option<LeafIndex>,
    pub dedicated: DedicatedLeaves,
    /// By 15, 60, 300 and 3600 seconds.
    pub start_rounded: [Option<LeafIndex>; 4],
    pub events: EventLeaves,
    pub links: LinkLeaves,
}

/// Which leaf holds what.
#[derive(Debug, Clone, Default)]
#[allow(
    missing_docs,
    reason = "named like the columns, which the format's page explains"
)]
pub struct Leaves {
    pub trace_id: Option<LeafIndex>,
    pub trace_id_text: Option<LeafIndex>,
    pub start: Option<LeafIndex>,
    pub end: Option<LeafIndex>,
    pub duration: Option<LeafIndex>,
    pub root_service: Option<LeafIndex>,
    pub root_span: Option<LeafIndex>,
    pub stats_service: Option<LeafIndex>,
    pub stats_spans: Option<LeafIndex>,
    pub stats_errors: Option<LeafIndex>,
    pub service_name: Option<LeafIndex>,
    pub resource_attributes: AttributeLeaves,
    pub resource_dropped: Option<LeafIndex>,
    /// Attributes of resources with columns named after them, in the order of the columns.
    pub resource_known: [Option<LeafIndex>; 8],
    pub resource_dedicated: DedicatedLeaves,
    pub scope_name: Option<LeafIndex>,
    pub scope_version: Option<LeafIndex>,
    pub scope_attributes: AttributeLeaves,
    pub scope_dropped: Option<LeafIndex>,
    pub scope_span_count: Option<LeafIndex>,
    pub span: SpanLeaves,
}

/// Leaves by path without what only wraps lists.
struct ByPath(HashMap<String, LeafIndex>);

impl Leaves {
    /// Finds them among paths in the file's order.
    pub fn find<'a>(paths: impl IntoIterator<Item = &'a str>) -> Self {
        let short = |path: &str| path.replace(".list.element", "");
        let numbered = paths.into_iter().enumerate();
        let by_path = ByPath(numbered.map(|(i, path)| (short(path), i)).collect());
        let known = KNOWN_RESOURCE.map(|(name, _)| by_path.at("rs.Resource", name));
        Self {
            trace_id: by_path.get("TraceID"),
            trace_id_text: by_path.get("TraceIDText"),
            start: by_path.get("StartTimeUnixNano"),
            end: by_path.get("EndTimeUnixNano"),
            duration: by_path.get("DurationNano"),
            root_service: by_path.get("RootServiceName"),
            root_span: by_path.get("RootSpanName"),
            stats_service: (by_path.get("ServiceStats.key_value.key"))
                .or(by_path.get("ServiceStats.ServiceName")),
            stats_spans: (by_path.get("ServiceStats.key_value.value.SpanCount"))
                .or(by_path.get("ServiceStats.SpanCount")),
            stats_errors: (by_path.get("ServiceStats.key_value.value.ErrorCount"))
                .or(by_path.get("ServiceStats.ErrorCount")),
            service_name: by_path.get("rs.Resource.ServiceName"),
            resource_attributes: by_path.attributes("rs.Resource"),
            resource_dropped: by_path.get("rs.Resource.DroppedAttributesCount"),
            resource_known: known,
            resource_dedicated: by_path.dedicated("rs.Resource"),
            scope_name: by_path.get("rs.ss.Scope.Name"),
            scope_version: by_path.get("rs.ss.Scope.Version"),
            scope_attributes: by_path.attributes("rs.ss.Scope"),
            scope_dropped: by_path.get("rs.ss.Scope.DroppedAttributesCount"),
            scope_span_count: by_path.get("rs.ss.SpanCount"),
            span: by_path.span("rs.ss.Spans"),
        }
    }
}

impl ByPath {
    fn get(&self, path: &str) -> Option<LeafIndex> {
        self.0.get(path).copied()
    }

    fn at(&self, above: &str, name: &str) -> Option<LeafIndex> {
        self.get(&format!("{above}.{name}"))
    }

    fn attributes(&self, above: &str) -> AttributeLeaves {
        let at = |name: &str| self.at(above, &format!("Attrs.{name}"));
        AttributeLeaves {
            key: at("Key"),
            is_array: at("IsArray"),
            text: at("Value"),
            int: at("ValueInt"),
            double: at("ValueDouble"),
            boolean: at("ValueBool"),
            unsupported: at("ValueUnsupported"),
            map_json: at("ValueKVList"),
            array_json: at("ValueArray"),
        }
    }

    fn dedicated(&self, above: &str) -> DedicatedLeaves {
        let slots = |name: &str, count: usize| {
            let at = |i: usize| self.at(above, &format!("DedicatedAttributes.{name}{i:02}"));
            let mut out: Vec<_> = (1..=count).map(at).collect();
            out.truncate(out.iter().rposition(Option::is_some).map_or(0, |i| i + 1));
            out
        };
        DedicatedLeaves {
            text: slots("String", 20),
            int: slots("Int", 5),
        }
    }

    fn span(&self, above: &str) -> SpanLeaves {
        let at = |name: &str| self.at(above, name);
        SpanLeaves {
            span_id: at("SpanID"),
            parent_span_id: at("ParentSpanID"),
            parent: at("ParentID"),
            nested_left: at("NestedSetLeft"),
            nested_right: at("NestedSetRight"),
            child_count: at("ChildCount"),
            name: at("Name"),
            kind: at("Kind"),
            trace_state: at("TraceState"),
            start: at("StartTimeUnixNano"),
            duration: at("DurationNano"),
            status_code: at("StatusCode"),
            status_message: at("StatusMessage"),
            attributes: self.attributes(above),
            dropped_attributes: at("DroppedAttributesCount"),
            dropped_events: at("DroppedEventsCount"),
            dropped_links: at("DroppedLinksCount"),
            http_method: at("HttpMethod"),
            http_url: at("HttpUrl"),
            http_status_code: at("HttpStatusCode"),
            dedicated: self.dedicated(above),
            start_rounded: [15, 60, 300, 3600].map(|s| at(&format!("StartTimeRounded{s}"))),
            events: self.events(&format!("{above}.Events")),
            links: self.links(&format!("{above}.Links"), above),
        }
    }

    fn events(&self, above: &str) -> EventLeaves {
        let at = |name: &str| self.at(above, name);
        EventLeaves {
            time: at("TimeUnixNano"),
            since_start: at("TimeSinceStartNano"),
            name: at("Name"),
            attributes: self.attributes(above),
            dropped: at("DroppedAttributesCount"),
            dedicated: self.dedicated(above),
        }
    }

    fn links(&self, above: &str, span: &str) -> LinkLeaves {
        let at = |name: &str| self.at(above, name);
        LinkLeaves {
            trace_id: at("TraceID"),
            span_id: at("SpanID"),
            trace_state: at("TraceState"),
            attributes: self.attributes(above),
            dropped: at("DroppedAttributesCount"),
            encoded: self.at(span, "Links"),
        }
    }
}
