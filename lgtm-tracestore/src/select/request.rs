//! What is asked for: plain data, which can be sent.

use std::collections::HashSet;

use super::field::{Field, Intrinsic, Level};
use super::literal::Literal;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SpanRequest {
    /// Which traces; all if there is none.
    pub traces: Option<TraceRange>,
    /// Which spans by their start; all if there is none.
    pub starts: Option<StartRange>,
    /// A holder may leave out spans that do not pass, never others; of a trace of which no span passes it may leave out all.
    pub filter: SpanFilter,
    /// Of a trace of which no span passes this, a holder may leave out all spans that it has: another part of the trace, in another place, may have one
    /// that does, and then all of the trace is looked at there.
    pub anchor: SpanFilter,
    /// What is wanted of each span.
    pub columns: WantedColumns,
    /// Only which values there are in each column by itself is of interest, or which names: a holder that knows may hand out rows that no span has.
    pub is_distinct: bool,
    /// Nobody asks for more columns of the rows that come: they need no [`row_ids`](super::SpanBatch::row_ids).
    pub is_read_once: bool,
    /// Of how many blocks, the newest ones; all if there is none. A holder that leaves some out says so.
    pub max_blocks: Option<usize>,
}

/// Traces that have to do with a time: their first start is not behind the end, their last end not before the start. Nanoseconds since the epoch, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceRange {
    /// The first moment.
    pub start_ns: u64,
    /// The last moment.
    pub end_ns: u64,
}

/// Spans that start in `(after, until]`. Nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartRange {
    /// Not those that start then.
    pub after_ns: u64,
    /// Those that start then too.
    pub until_ns: u64,
}

/// What is wanted of each span. Identifier, start and length of its trace, and its own row, come always.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WantedColumns {
    /// These fields, of which none is [unscoped](super::AttributeScope::Any) or of a trace.
    pub fields: Vec<Field>,
    /// And every attribute of every scope.
    pub all_attributes: bool,
    /// And what of their traces.
    pub traces: WantedOfTraces,
}

/// What is wanted of each trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WantedOfTraces {
    /// Name and service of the root span.
    pub root: bool,
    /// Spans and errors of each service.
    pub services: bool,
}

/// Which spans are of interest.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum SpanFilter {
    /// All.
    #[default]
    Everything,
    /// None.
    Nothing,
    /// Those that pass a test.
    Test(Condition),
    /// Those that pass all.
    All(Vec<SpanFilter>),
    /// Those that pass at least one.
    Any(Vec<SpanFilter>),
}

/// A test of one field. A span without the field fails; one that has several values (elements of an array, events, links) passes when one of them
/// does.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The field; never an unscoped attribute.
    pub field: Field,
    /// The test.
    pub test: Test,
}

/// A test of a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// There is one, whatever it is.
    Exists,
    /// It stands so to a literal. Numbers and durations are compared as numbers; a value of another type fails.
    Compare(CompareOp, Literal),
    /// It equals one of these.
    In(Vec<Literal>),
    /// It is a text that one of these expressions matches as a whole.
    Matches(Vec<String>),
}

/// How two values stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompareOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl CompareOp {
    /// The same with its sides exchanged.
    #[must_use]
    pub fn flipped(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            same => same,
        }
    }

    /// Whether two values stand so.
    #[inline]
    pub fn holds<T: PartialOrd>(self, a: T, b: T) -> bool {
        match self {
            Self::Equal => a == b,
            Self::NotEqual => a != b,
            Self::Less => a < b,
            Self::LessOrEqual => a <= b,
            Self::Greater => a > b,
            Self::GreaterOrEqual => a >= b,
        }
    }

    /// As queries write it.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

impl SpanFilter {
    /// Those that pass all; what follows of itself is left out.
    pub fn all(filters: impl IntoIterator<Item = Self>) -> Self {
        let mut kept = Vec::new();
        for filter in filters {
            match filter {
                Self::Everything => {}
                Self::Nothing => return Self::Nothing,
                Self::All(inner) => kept.extend(inner),
                other => kept.push(other),
            }
        }
        match kept.len() {
            0 => Self::Everything,
            1 => kept.swap_remove(0),
            _ => Self::All(kept),
        }
    }

    /// Those that pass at least one; what follows of itself is left out.
    pub fn any(filters: impl IntoIterator<Item = Self>) -> Self {
        let mut kept = Vec::new();
        for filter in filters {
            match filter {
                Self::Everything => return Self::Everything,
                Self::Nothing => {}
                Self::Any(inner) => kept.extend(inner),
                other => kept.push(other),
            }
        }
        match kept.len() {
            0 => Self::Nothing,
            1 => kept.swap_remove(0),
            _ => Self::Any(kept),
        }
    }
}

impl SpanFilter {
    /// The fields that are tested, some of them twice.
    pub fn fields(&self) -> Vec<&Field> {
        let mut out = Vec::new();
        self.add_fields(&mut out);
        out
    }

    fn add_fields<'f>(&'f self, out: &mut Vec<&'f Field>) {
        lgtm_core::exec::with_room(|| match self {
            Self::Everything | Self::Nothing => {}
            Self::Test(condition) => out.push(&condition.field),
            Self::All(all) | Self::Any(all) => all.iter().for_each(|f| f.add_fields(out)),
        });
    }

    /// What of it can be told by a part of a trace: what depends on the rest of the trace may be true of any span.
    #[must_use]
    pub fn of_parts(&self) -> Self {
        lgtm_core::exec::with_room(|| match self {
            Self::Test(condition) if !is_spans_own(&condition.field) => Self::Everything,
            Self::All(all) => Self::all(all.iter().map(Self::of_parts)),
            Self::Any(any) => Self::any(any.iter().map(Self::of_parts)),
            same => same.clone(),
        })
    }
}

fn is_spans_own(field: &Field) -> bool {
    match field {
        Field::Intrinsic(Intrinsic::TraceId) => true,
        Field::Intrinsic(
            Intrinsic::NestedSetLeft
            | Intrinsic::NestedSetRight
            | Intrinsic::NestedSetParent
            | Intrinsic::ChildCount,
        ) => false,
        field => field.level() != Level::Trace,
    }
}

impl WantedColumns {
    /// Adds a field of a query: the columns that answer it, or what is wanted of the trace.
    pub fn add(&mut self, field: &Field) {
        if field.level() == Level::Trace {
            let of_root = [Intrinsic::RootName, Intrinsic::RootService];
            self.traces.root |= of_root.iter().any(|i| *field == Field::Intrinsic(*i));
            return;
        }
        for column in field.columns() {
            if !self.fields.contains(&column) {
                self.fields.push(column);
            }
        }
    }

    /// Adds many fields of a query. Takes time by their number, where [`add`](Self::add) compares each with all.
    pub fn add_all<'f>(&mut self, fields: impl IntoIterator<Item = &'f Field>) {
        let mut known: HashSet<Field> = self.fields.iter().cloned().collect();
        for field in fields {
            if field.level() == Level::Trace {
                self.add(field);
                continue;
            }
            for column in field.columns() {
                if known.insert(column.clone()) {
                    self.fields.push(column);
                }
            }
        }
    }
}
