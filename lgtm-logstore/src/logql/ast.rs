//! The tree of a query.

use lgtm_core::model::Matcher;

/// A query.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// Asks for entries.
    Log(LogExpr),
    /// Asks for numbers.
    Metric(MetricExpr),
}

/// Streams and what happens to their entries.
#[derive(Debug, Clone, PartialEq)]
pub struct LogExpr {
    /// What selects the streams; at least one does not accept the empty text.
    pub matchers: Vec<Matcher>,
    /// What each entry goes through, in order.
    pub stages: Vec<Stage>,
}

/// One stage of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// `|= "text"` and its kin.
    LineFilter(LineFilter),
    /// `| json`, with expressions or without.
    Json(Vec<FieldPath>),
    /// `| logfmt`
    Logfmt(LogfmtStage),
    /// `| pattern "<a> <b>"`
    Pattern(String),
    /// `| regexp "(?P<a>..)"`
    Regexp(String),
    /// `| unpack`
    Unpack,
    /// `| status >= 500`
    LabelFilter(LabelFilter),
    /// `| line_format "{{.a}}"`
    LineFormat(String),
    /// `| label_format a=b, c="{{.d}}"`
    LabelFormat(Vec<LabelFormat>),
    /// `| decolorize`
    Decolorize,
    /// `| drop a, b="c"`
    Drop(Vec<LabelPick>),
    /// `| keep a, b="c"`
    Keep(Vec<LabelPick>),
}

/// Keeps lines by their text.
#[derive(Debug, Clone, PartialEq)]
pub struct LineFilter {
    /// How the text is compared.
    pub op: LineFilterOp,
    /// One must hold; with a negated operator, none may. Not empty.
    pub operands: Vec<LineOperand>,
}

/// How a line filter compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFilterOp {
    /// `|=`
    Contains,
    /// `!=`
    NotContains,
    /// `|~`
    Matches,
    /// `!~`
    NotMatches,
    /// `|>`
    Pattern,
    /// `!>`
    NotPattern,
}

impl LineFilterOp {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Contains => "|=",
            Self::NotContains => "!=",
            Self::Matches => "|~",
            Self::NotMatches => "!~",
            Self::Pattern => "|>",
            Self::NotPattern => "!>",
        }
    }

    /// Whether lines are kept that do not match.
    pub fn is_negated(self) -> bool {
        matches!(
            self,
            Self::NotContains | Self::NotMatches | Self::NotPattern
        )
    }
}

/// What a line filter looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineOperand {
    /// A text, regular expression or pattern.
    Text(String),
    /// An address in a range: `ip("10.0.0.0/8")`.
    Ip(String),
}

/// A label and where its value stands: `name="a.b[0]"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath {
    /// The label.
    pub label: String,
    /// The place.
    pub path: String,
}

/// The logfmt parser.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogfmtStage {
    /// Whether the first bad pair ends it with an error.
    pub strict: bool,
    /// Whether keys without a value become labels.
    pub keep_empty: bool,
    /// The fields wanted; none: all.
    pub fields: Vec<FieldPath>,
}

/// A comparison with a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareOp {
    /// `==`, in label filters `=` too
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
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    /// Whether it holds between two values; of NaN only `!=` does.
    pub fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }
}

/// Keeps entries by their labels.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelFilter {
    /// As text; an absent label is the empty one.
    Text(Matcher),
    /// As a number.
    Number {
        /// The label.
        name: String,
        /// How it is compared.
        op: CompareOp,
        /// With what.
        value: f64,
    },
    /// As a duration.
    Duration {
        /// The label.
        name: String,
        /// How it is compared.
        op: CompareOp,
        /// With what, nanoseconds.
        ns: i64,
    },
    /// As a size.
    Bytes {
        /// The label.
        name: String,
        /// How it is compared.
        op: CompareOp,
        /// With what, bytes.
        bytes: u64,
    },
    /// As an address: `addr = ip("10.0.0.0/8")`.
    Ip {
        /// The label.
        name: String,
        /// Whether addresses outside of the range are kept.
        is_negated: bool,
        /// The range.
        range: String,
    },
    /// Both.
    And(Box<LabelFilter>, Box<LabelFilter>),
    /// One of the two.
    Or(Box<LabelFilter>, Box<LabelFilter>),
}

/// A label that is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelFormat {
    /// `to=from`
    Rename {
        /// The new name.
        to: String,
        /// The old name.
        from: String,
    },
    /// `to="template"`
    Template {
        /// The label.
        to: String,
        /// What makes it.
        template: String,
    },
}

impl LabelFormat {
    /// The label that it makes.
    pub fn target(&self) -> &str {
        match self {
            Self::Rename { to, .. } | Self::Template { to, .. } => to,
        }
    }
}

/// A label that is dropped or kept: whatever its value, or if it matches.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelPick {
    /// By name.
    Name(String),
    /// By name and value.
    Matching(Matcher),
}

impl LabelPick {
    /// The label.
    pub fn name(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Matching(matcher) => matcher.name(),
        }
    }
}

/// An expression whose value is numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricExpr {
    /// A number.
    Literal(f64),
    /// `vector(1)`
    Vector(f64),
    /// A function over the entries of a range of time.
    Range(Box<RangeAggregation>),
    /// A function over series.
    Aggregation(Box<VectorAggregation>),
    /// An operator.
    Binary(Box<BinaryExpr>),
    /// `label_replace(..)`
    LabelReplace(Box<LabelReplace>),
    /// The answers to a part that was asked for itself. No text is parsed to it.
    Leg(Leg),
}

/// The answers to a leg of a query that was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leg {
    /// Which leg, from 0.
    pub number: usize,
    /// What becomes of series of several answers that have equal labels.
    pub join: LegJoin,
}

/// How values of equal labels and times are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegJoin {
    /// There are none: the leg has one answer.
    None,
    /// They are added.
    Sum,
    /// The least counts.
    Least,
    /// The greatest counts.
    Greatest,
    /// That of the first answer which has one counts.
    First,
}

impl LegJoin {
    /// A word for it; empty for none.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Sum => "sum",
            Self::Least => "min",
            Self::Greatest => "max",
            Self::First => "first",
        }
    }
}

/// What a range aggregation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as they are written")]
pub enum RangeOp {
    CountOverTime,
    Rate,
    RateCounter,
    BytesOverTime,
    BytesRate,
    AbsentOverTime,
    SumOverTime,
    AvgOverTime,
    MinOverTime,
    MaxOverTime,
    StddevOverTime,
    StdvarOverTime,
    QuantileOverTime,
    FirstOverTime,
    LastOverTime,
}

impl RangeOp {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::CountOverTime,
        Self::Rate,
        Self::RateCounter,
        Self::BytesOverTime,
        Self::BytesRate,
        Self::AbsentOverTime,
        Self::SumOverTime,
        Self::AvgOverTime,
        Self::MinOverTime,
        Self::MaxOverTime,
        Self::StddevOverTime,
        Self::StdvarOverTime,
        Self::QuantileOverTime,
        Self::FirstOverTime,
        Self::LastOverTime,
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CountOverTime => "count_over_time",
            Self::Rate => "rate",
            Self::RateCounter => "rate_counter",
            Self::BytesOverTime => "bytes_over_time",
            Self::BytesRate => "bytes_rate",
            Self::AbsentOverTime => "absent_over_time",
            Self::SumOverTime => "sum_over_time",
            Self::AvgOverTime => "avg_over_time",
            Self::MinOverTime => "min_over_time",
            Self::MaxOverTime => "max_over_time",
            Self::StddevOverTime => "stddev_over_time",
            Self::StdvarOverTime => "stdvar_over_time",
            Self::QuantileOverTime => "quantile_over_time",
            Self::FirstOverTime => "first_over_time",
            Self::LastOverTime => "last_over_time",
        }
    }

    /// Whether it may stand without `unwrap`.
    pub fn counts_entries(self) -> bool {
        matches!(
            self,
            Self::CountOverTime
                | Self::Rate
                | Self::BytesOverTime
                | Self::BytesRate
                | Self::AbsentOverTime
        )
    }

    /// Whether it may stand with `unwrap`.
    pub fn takes_values(self) -> bool {
        !matches!(
            self,
            Self::CountOverTime | Self::BytesOverTime | Self::BytesRate
        )
    }

    /// Whether it may group.
    pub fn may_group(self) -> bool {
        matches!(
            self,
            Self::AvgOverTime
                | Self::MinOverTime
                | Self::MaxOverTime
                | Self::StddevOverTime
                | Self::StdvarOverTime
                | Self::QuantileOverTime
                | Self::FirstOverTime
                | Self::LastOverTime
        )
    }

    /// Whether it reads the lengths of lines.
    pub fn counts_bytes(self) -> bool {
        matches!(self, Self::BytesOverTime | Self::BytesRate)
    }
}

/// `op(param, {..} | .. | unwrap x [5m] offset 1m) by (..)`
#[derive(Debug, Clone, PartialEq)]
pub struct RangeAggregation {
    /// What it does.
    pub op: RangeOp,
    /// The quantile.
    pub param: Option<f64>,
    /// Which entries.
    pub log: LogExpr,
    /// Which value of them; none: the entries themselves.
    pub unwrap: Option<Unwrap>,
    /// Length of the window, nanoseconds.
    pub range_ns: i64,
    /// How far back the window is moved, nanoseconds.
    pub offset_ns: i64,
    /// By which labels; none: all that there are.
    pub grouping: Option<GroupingClause>,
}

/// `| unwrap duration(x) | filters`
#[derive(Debug, Clone, PartialEq)]
pub struct Unwrap {
    /// The label.
    pub label: String,
    /// How its text becomes a number.
    pub conversion: Conversion,
    /// Filters behind it.
    pub filters: Vec<LabelFilter>,
}

/// How a label's text becomes a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversion {
    /// As a number.
    Number,
    /// As a size, in bytes.
    Bytes,
    /// As a duration, in seconds: `duration(x)`.
    Duration,
    /// The same: `duration_seconds(x)`.
    DurationSeconds,
}

impl Conversion {
    /// The function's name; empty for a plain number.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Number => "",
            Self::Bytes => "bytes",
            Self::Duration => "duration",
            Self::DurationSeconds => "duration_seconds",
        }
    }
}

/// `by (a, b)` or `without (a, b)`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupingClause {
    /// Whether the labels are left out rather than kept.
    pub without: bool,
    /// The labels, as written.
    pub names: Vec<String>,
}

/// What an aggregation over series does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as they are written")]
pub enum VectorOp {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Stddev,
    Stdvar,
    TopK,
    BottomK,
    Sort,
    SortDesc,
    ApproxTopK,
}

impl VectorOp {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Sum,
        Self::Avg,
        Self::Min,
        Self::Max,
        Self::Count,
        Self::Stddev,
        Self::Stdvar,
        Self::TopK,
        Self::BottomK,
        Self::Sort,
        Self::SortDesc,
        Self::ApproxTopK,
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::Count => "count",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::TopK => "topk",
            Self::BottomK => "bottomk",
            Self::Sort => "sort",
            Self::SortDesc => "sort_desc",
            Self::ApproxTopK => "approx_topk",
        }
    }

    /// Whether it takes a number before the series.
    pub fn takes_count(self) -> bool {
        matches!(self, Self::TopK | Self::BottomK | Self::ApproxTopK)
    }
}

/// `sum by (a) (..)`
#[derive(Debug, Clone, PartialEq)]
pub struct VectorAggregation {
    /// What it does.
    pub op: VectorOp,
    /// How many series are kept, for those that keep some.
    pub count: usize,
    /// By which labels; none: all in one.
    pub grouping: Option<GroupingClause>,
    /// Over what.
    pub expr: MetricExpr,
}

/// An operator between two expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryOp {
    /// `or`
    Or,
    /// `and`
    And,
    /// `unless`
    Unless,
    /// A comparison.
    Compare(CompareOp),
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `^`
    Pow,
}

impl BinaryOp {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Or => "or",
            Self::And => "and",
            Self::Unless => "unless",
            Self::Compare(op) => op.as_str(),
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
        }
    }

    /// Whether it works on sets of series.
    pub fn is_set(self) -> bool {
        matches!(self, Self::Or | Self::And | Self::Unless)
    }

    /// How tightly it binds; more is tighter.
    pub fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Compare(_) => 3,
            Self::Add | Self::Sub => 4,
            Self::Mul | Self::Div | Self::Mod => 5,
            Self::Pow => 6,
        }
    }
}

/// `left op right`
#[derive(Debug, Clone, PartialEq)]
pub struct BinaryExpr {
    /// The operator.
    pub op: BinaryOp,
    /// Whether a comparison gives 0 or 1 rather than filtering.
    pub returns_bool: bool,
    /// Which series meet; none: those of equal labels.
    pub matching: Option<VectorMatching>,
    /// The left side.
    pub left: MetricExpr,
    /// The right side.
    pub right: MetricExpr,
}

/// Which series of two sides meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorMatching {
    /// Whether `labels` are those that count (`on`) rather than those that do not (`ignoring`).
    pub on: bool,
    /// The labels, as written.
    pub labels: Vec<String>,
    /// Which side may have many.
    pub group: MatchSide,
    /// Labels that come over from the one side.
    pub include: Vec<String>,
}

/// Which side of a match may have many series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchSide {
    /// None.
    OneToOne,
    /// The left one: `group_left`.
    Left,
    /// The right one: `group_right`.
    Right,
}

/// `label_replace(expr, "to", "replacement", "from", "regex")`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelReplaceArguments {
    /// The label that is set.
    pub to: String,
    /// Its value, with references to the groups of `regex`.
    pub replacement: String,
    /// The label that is looked at.
    pub from: String,
    /// What it must match, all of it.
    pub regex: String,
}

/// `label_replace(..)`
#[derive(Debug, Clone, PartialEq)]
pub struct LabelReplace {
    /// Over what.
    pub expr: MetricExpr,
    /// How.
    pub arguments: LabelReplaceArguments,
}
