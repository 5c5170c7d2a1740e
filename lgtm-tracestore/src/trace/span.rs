//! Spans, and what they lie in: scopes, resources, traces.

use crate::trace::Attribute;

/// A trace, or the spans of a request: all of them by resource and scope. Order has no meaning, but is kept.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trace<'a> {
    /// Its resources. Two may be equal; how they are joined is a matter of whoever stores them.
    pub resources: Vec<ResourceSpans<'a>>,
}

/// What one resource sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResourceSpans<'a> {
    /// Attributes of the resource, `service.name` among them.
    pub attributes: Vec<Attribute<'a>>,
    /// Attributes that the sender left out.
    pub dropped_attributes_count: u32,
    /// Its scopes.
    pub scopes: Vec<ScopeSpans<'a>>,
}

/// What one instrumentation scope of a resource sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScopeSpans<'a> {
    /// The scope's name.
    pub name: &'a [u8],
    /// Its version.
    pub version: &'a [u8],
    /// Its attributes.
    pub attributes: Vec<Attribute<'a>>,
    /// Attributes that the sender left out.
    pub dropped_attributes_count: u32,
    /// Its spans.
    pub spans: Vec<Span<'a>>,
}

/// One operation. Flags and schema URLs are not kept, as in Tempo.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Span<'a> {
    /// 16 bytes, once a distributor has taken the span.
    pub trace_id: &'a [u8],
    /// 8 bytes, once a distributor has taken the span; blocks of others may hold any length.
    pub span_id: &'a [u8],
    /// Empty for a root.
    pub parent_span_id: &'a [u8],
    /// The W3C trace state.
    pub trace_state: &'a [u8],
    /// What is done.
    pub name: &'a [u8],
    /// The number that [`SpanKind`] names, as it was sent.
    pub kind: i32,
    /// Nanoseconds since the epoch.
    pub start_ns: u64,
    /// Nanoseconds since the epoch; may lie before the start, as it was sent.
    pub end_ns: u64,
    /// Its attributes.
    pub attributes: Vec<Attribute<'a>>,
    /// Attributes that the sender left out.
    pub dropped_attributes_count: u32,
    /// What happened meanwhile.
    pub events: Vec<Event<'a>>,
    /// Events that the sender left out.
    pub dropped_events_count: u32,
    /// Other spans that it has to do with.
    pub links: Vec<Link<'a>>,
    /// Links that the sender left out.
    pub dropped_links_count: u32,
    /// The number that [`StatusCode`] names, as it was sent.
    pub status_code: i32,
    /// What went wrong.
    pub status_message: &'a [u8],
}

/// Something that happened during a span.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Event<'a> {
    /// Nanoseconds since the epoch.
    pub time_ns: u64,
    /// What happened.
    pub name: &'a [u8],
    /// Its attributes.
    pub attributes: Vec<Attribute<'a>>,
    /// Attributes that the sender left out.
    pub dropped_attributes_count: u32,
}

/// A span that another span names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Link<'a> {
    /// Its trace; any length.
    pub trace_id: &'a [u8],
    /// Its span; any length.
    pub span_id: &'a [u8],
    /// Its trace state.
    pub trace_state: &'a [u8],
    /// Attributes of the link.
    pub attributes: Vec<Attribute<'a>>,
    /// Attributes that the sender left out.
    pub dropped_attributes_count: u32,
}

/// Which side of a call a span is. Numbers are OTLP's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum SpanKind {
    /// Not said.
    Unspecified = 0,
    /// Within one process.
    Internal = 1,
    /// Serves a request.
    Server = 2,
    /// Sends a request.
    Client = 3,
    /// Writes to a queue.
    Producer = 4,
    /// Reads from a queue.
    Consumer = 5,
}

/// How a span ended. Numbers are OTLP's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum StatusCode {
    /// Not said.
    Unset = 0,
    /// Well.
    Ok = 1,
    /// Not well.
    Error = 2,
}

impl<'a> Trace<'a> {
    /// All spans, each with where it lies.
    pub fn spans(
        &self,
    ) -> impl Iterator<Item = (&ResourceSpans<'a>, &ScopeSpans<'a>, &Span<'a>)> + use<'_, 'a> {
        self.resources.iter().flat_map(|resource| {
            resource.scopes.iter().flat_map(move |scope| {
                let spans = scope.spans.iter();
                spans.map(move |span| (resource, scope, span))
            })
        })
    }

    /// Number of spans.
    pub fn span_count(&self) -> usize {
        let scopes = self.resources.iter().flat_map(|r| &r.scopes);
        scopes.map(|scope| scope.spans.len()).sum()
    }
}

impl<'a> ResourceSpans<'a> {
    /// The text of `service.name`: empty when there is none, or when it is no text.
    pub fn service_name(&self) -> &'a [u8] {
        let named = (self.attributes.iter()).find(|a| a.key == b"service.name");
        named.and_then(|a| a.value.as_text()).unwrap_or_default()
    }
}

impl SpanKind {
    /// The kind of that number; `None` for one that OTLP does not know.
    pub fn of_number(number: i32) -> Option<Self> {
        Some(match number {
            0 => Self::Unspecified,
            1 => Self::Internal,
            2 => Self::Server,
            3 => Self::Client,
            4 => Self::Producer,
            5 => Self::Consumer,
            _ => return None,
        })
    }
}

impl SpanKind {
    /// Its name in OTLP.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "SPAN_KIND_UNSPECIFIED",
            Self::Internal => "SPAN_KIND_INTERNAL",
            Self::Server => "SPAN_KIND_SERVER",
            Self::Client => "SPAN_KIND_CLIENT",
            Self::Producer => "SPAN_KIND_PRODUCER",
            Self::Consumer => "SPAN_KIND_CONSUMER",
        }
    }
}

impl StatusCode {
    /// Its name in OTLP.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unset => "STATUS_CODE_UNSET",
            Self::Ok => "STATUS_CODE_OK",
            Self::Error => "STATUS_CODE_ERROR",
        }
    }

    /// The code of that number; `None` for one that OTLP does not know.
    pub fn of_number(number: i32) -> Option<Self> {
        Some(match number {
            0 => Self::Unset,
            1 => Self::Ok,
            2 => Self::Error,
            _ => return None,
        })
    }
}
