//! What of a span can be asked for: intrinsics, and attributes by scope and name.

use std::fmt;

/// Something that spans have, or what they lie in, or what they hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// What every span has by nature.
    Intrinsic(Intrinsic),
    /// An attribute by its name.
    Attribute(AttributeScope, String),
}

/// Whose attribute it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AttributeScope {
    /// The span's, or else its resource's. A query may say so; columns never do.
    Any,
    /// The resource's.
    Resource,
    /// The span's.
    Span,
    /// An event's of the span.
    Event,
    /// A link's of the span.
    Link,
    /// The instrumentation scope's.
    Instrumentation,
}

/// What a span has by nature. Durations and times are nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Intrinsic {
    /// From start to end.
    Duration,
    /// What is done.
    Name,
    /// A [`StatusCode`](crate::trace::StatusCode)'s number.
    Status,
    /// What went wrong.
    StatusMessage,
    /// A [`SpanKind`](crate::trace::SpanKind)'s number.
    Kind,
    /// Its identifier, as bytes.
    SpanId,
    /// That of the span above, as bytes; roots have none.
    ParentId,
    /// Spans directly below.
    ChildCount,
    /// When it began, since the epoch.
    StartTime,
    /// Left number of the nested set.
    NestedSetLeft,
    /// Right number of the nested set.
    NestedSetRight,
    /// Left number of the span above; -1 for roots.
    NestedSetParent,
    /// From the first start of the trace to its last end.
    TraceDuration,
    /// Name of the root span.
    RootName,
    /// Service of the root span.
    RootService,
    /// The trace's identifier.
    TraceId,
    /// What an event is.
    EventName,
    /// From the span's start to an event.
    EventTimeSinceStart,
    /// The trace that a link names, as bytes.
    LinkTraceId,
    /// The span that a link names, as bytes.
    LinkSpanId,
    /// The instrumentation scope's name.
    ScopeName,
    /// Its version.
    ScopeVersion,
}

/// What the rows of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// Traces: such fields stand in [`TraceRow`](super::TraceRow) and have no column.
    Trace,
    /// Spans; what their resource and scope have is repeated.
    Span,
    /// Events of all spans, one after the other.
    Event,
    /// Links of all spans, one after the other.
    Link,
}

impl Field {
    /// An attribute.
    pub fn attribute(scope: AttributeScope, name: impl Into<String>) -> Self {
        Self::Attribute(scope, name.into())
    }

    /// What its values belong to.
    pub fn level(&self) -> Level {
        match self {
            Self::Intrinsic(intrinsic) => intrinsic.level(),
            Self::Attribute(AttributeScope::Event, _) => Level::Event,
            Self::Attribute(AttributeScope::Link, _) => Level::Link,
            Self::Attribute(..) => Level::Span,
        }
    }

    /// The columns that answer it: for [`AttributeScope::Any`] the span's and the resource's, in the order in which they are looked at.
    pub fn columns(&self) -> Vec<Self> {
        match self {
            Self::Attribute(AttributeScope::Any, name) => {
                [AttributeScope::Span, AttributeScope::Resource]
                    .map(|scope| Self::attribute(scope, name))
                    .into()
            }
            field => vec![field.clone()],
        }
    }

    /// Whether every span has a value: nothing of it is ever `nil`.
    pub fn is_never_nil(&self) -> bool {
        match self {
            Self::Intrinsic(_) => true,
            Self::Attribute(scope, name) => {
                *scope == AttributeScope::Resource && name == "service.name"
            }
        }
    }
}

impl From<Intrinsic> for Field {
    fn from(intrinsic: Intrinsic) -> Self {
        Self::Intrinsic(intrinsic)
    }
}

impl Intrinsic {
    /// All that queries can name.
    pub const ALL: [Self; 21] = [
        Self::Duration,
        Self::Name,
        Self::Status,
        Self::StatusMessage,
        Self::Kind,
        Self::SpanId,
        Self::ParentId,
        Self::ChildCount,
        Self::NestedSetLeft,
        Self::NestedSetRight,
        Self::NestedSetParent,
        Self::TraceDuration,
        Self::RootName,
        Self::RootService,
        Self::TraceId,
        Self::EventName,
        Self::EventTimeSinceStart,
        Self::LinkTraceId,
        Self::LinkSpanId,
        Self::ScopeName,
        Self::ScopeVersion,
    ];

    /// What its values belong to.
    pub fn level(self) -> Level {
        match self {
            Self::TraceDuration | Self::RootName | Self::RootService | Self::TraceId => {
                Level::Trace
            }
            Self::EventName | Self::EventTimeSinceStart => Level::Event,
            Self::LinkTraceId | Self::LinkSpanId => Level::Link,
            _ => Level::Span,
        }
    }

    /// The bare name, where it has one.
    pub fn bare_name(self) -> Option<&'static str> {
        Some(match self {
            Self::Duration => "duration",
            Self::Name => "name",
            Self::Status => "status",
            Self::StatusMessage => "statusMessage",
            Self::Kind => "kind",
            Self::NestedSetLeft => "nestedSetLeft",
            Self::NestedSetRight => "nestedSetRight",
            Self::NestedSetParent => "nestedSetParent",
            Self::TraceDuration => "traceDuration",
            Self::RootName => "rootName",
            Self::RootService => "rootServiceName",
            _ => return None,
        })
    }

    /// The name after a scope, where it has one.
    pub fn scoped_name(self) -> Option<&'static str> {
        Some(match self {
            Self::Duration => "span:duration",
            Self::Name => "span:name",
            Self::Status => "span:status",
            Self::StatusMessage => "span:statusMessage",
            Self::Kind => "span:kind",
            Self::SpanId => "span:id",
            Self::ParentId => "span:parentID",
            Self::ChildCount => "span:childCount",
            Self::TraceDuration => "trace:duration",
            Self::RootName => "trace:rootName",
            Self::RootService => "trace:rootService",
            Self::TraceId => "trace:id",
            Self::EventName => "event:name",
            Self::EventTimeSinceStart => "event:timeSinceStart",
            Self::LinkTraceId => "link:traceID",
            Self::LinkSpanId => "link:spanID",
            Self::ScopeName => "instrumentation:name",
            Self::ScopeVersion => "instrumentation:version",
            _ => return None,
        })
    }

    /// The intrinsic of that bare name.
    pub fn of_bare_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|i| i.bare_name() == Some(name))
    }

    /// The intrinsic of that name after a scope.
    pub fn of_scoped_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|i| i.scoped_name() == Some(name))
    }

    /// Whether its values are identifiers, which print as hexadecimal digits.
    pub fn is_id(self) -> bool {
        matches!(
            self,
            Self::SpanId | Self::ParentId | Self::TraceId | Self::LinkTraceId | Self::LinkSpanId
        )
    }

    /// Whether its values are durations.
    pub fn is_duration(self) -> bool {
        matches!(
            self,
            Self::Duration | Self::TraceDuration | Self::EventTimeSinceStart
        )
    }
}

impl AttributeScope {
    /// Those that columns have.
    pub const ALL: [Self; 5] = [
        Self::Resource,
        Self::Span,
        Self::Event,
        Self::Link,
        Self::Instrumentation,
    ];

    /// The word before the point; none for [`Any`](Self::Any).
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Resource => "resource",
            Self::Span => "span",
            Self::Event => "event",
            Self::Link => "link",
            Self::Instrumentation => "instrumentation",
        }
    }
}

/// As queries write it: the bare name of an intrinsic where it has one; names in quotes where they must be.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intrinsic(intrinsic) => {
                let name = intrinsic.bare_name().or_else(|| intrinsic.scoped_name());
                f.write_str(name.unwrap_or("span:startTime"))
            }
            Self::Attribute(scope, name) => {
                write!(f, "{}.", scope.name())?;
                if !name.is_empty() && !name.contains(ends_a_name) && !name.contains(['"', '\\']) {
                    return f.write_str(name);
                }
                f.write_str("\"")?;
                for c in name.chars() {
                    if matches!(c, '"' | '\\') {
                        f.write_str("\\")?;
                    }
                    write!(f, "{c}")?;
                }
                f.write_str("\"")
            }
        }
    }
}

/// Whether a character ends an attribute's name that is not in quotes.
pub fn ends_a_name(c: char) -> bool {
    c.is_whitespace() || "{}()=~!<>&|^,".contains(c)
}
