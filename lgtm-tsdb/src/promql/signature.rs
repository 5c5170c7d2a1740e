//! The functions of the language: names, types of arguments and results.
//!
//! Source: <https://prometheus.io/docs/prometheus/latest/querying/functions/>, and Prometheus 3.14 for what is experimental.

use super::ast::ValueType;
use ValueType::{Matrix, Scalar, Text, Vector};

/// A function's signature.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// As written in a query.
    pub name: &'static str,
    /// Types of the arguments. The last one stands for all further ones.
    pub args: &'static [ValueType],
    /// How many of them must or may be there.
    pub arity: Arity,
    /// What a call gives.
    pub returns: ValueType,
    /// Whether it stands behind [`ParserOptions::experimental_functions`](super::ParserOptions::experimental_functions).
    pub experimental: bool,
}

/// How many arguments a function takes, measured against the types it lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// Exactly the listed ones.
    Exact,
    /// The last listed one may be left out; up to this many may follow in its place and after it.
    UpTo(usize),
    /// The last listed one may be left out or stand any number of times.
    Any,
}

impl Function {
    /// The function of a name.
    pub fn find(name: &str) -> Option<&'static Self> {
        let at = FUNCTIONS.binary_search_by_key(&name, |f| f.name).ok()?;
        Some(&FUNCTIONS[at])
    }

    /// All functions, sorted by name.
    pub fn all() -> &'static [Self] {
        FUNCTIONS
    }

    /// The fewest arguments of a call.
    pub fn min_args(&self) -> usize {
        match self.arity {
            Arity::Exact => self.args.len(),
            Arity::UpTo(_) | Arity::Any => self.args.len() - 1,
        }
    }

    /// The most arguments of a call; `None` is no bound.
    pub fn max_args(&self) -> Option<usize> {
        match self.arity {
            Arity::Exact => Some(self.args.len()),
            Arity::UpTo(more) => Some(self.args.len() - 1 + more),
            Arity::Any => None,
        }
    }

    /// The type of the n-th argument, from 0.
    pub fn arg(&self, n: usize) -> Option<ValueType> {
        self.args.get(n).or(self.args.last()).copied()
    }

    const fn experimental(mut self) -> Self {
        self.experimental = true;
        self
    }
}

const fn function(
    name: &'static str,
    args: &'static [ValueType],
    arity: Arity,
    returns: ValueType,
) -> Function {
    Function {
        name,
        args,
        arity,
        returns,
        experimental: false,
    }
}

/// Takes one vector and gives one.
const fn map(name: &'static str) -> Function {
    function(name, &[Vector], Arity::Exact, Vector)
}

/// Takes a vector, or the time of evaluation in its place.
const fn date(name: &'static str) -> Function {
    function(name, &[Vector], Arity::UpTo(1), Vector)
}

/// Takes a range and gives a vector.
const fn over_time(name: &'static str) -> Function {
    function(name, &[Matrix], Arity::Exact, Vector)
}

/// Takes nothing.
const fn constant(name: &'static str) -> Function {
    function(name, &[], Arity::Exact, Scalar)
}

/// By name, so that they are found by halving.
static FUNCTIONS: &[Function] = &[
    map("abs"),
    map("absent"),
    over_time("absent_over_time"),
    map("acos"),
    map("acosh"),
    map("asin"),
    map("asinh"),
    map("atan"),
    map("atanh"),
    over_time("avg_over_time"),
    map("ceil"),
    over_time("changes"),
    function("clamp", &[Vector, Scalar, Scalar], Arity::Exact, Vector),
    function("clamp_max", &[Vector, Scalar], Arity::Exact, Vector),
    function("clamp_min", &[Vector, Scalar], Arity::Exact, Vector),
    map("cos"),
    map("cosh"),
    over_time("count_over_time"),
    date("day_of_month"),
    date("day_of_week"),
    date("day_of_year"),
    date("days_in_month"),
    map("deg"),
    over_time("delta"),
    over_time("deriv"),
    function(
        "double_exponential_smoothing",
        &[Matrix, Scalar, Scalar],
        Arity::Exact,
        Vector,
    )
    .experimental(),
    constant("end").experimental(),
    map("exp"),
    over_time("first_over_time"),
    map("floor"),
    map("histogram_avg"),
    map("histogram_count"),
    function(
        "histogram_fraction",
        &[Scalar, Scalar, Vector],
        Arity::Exact,
        Vector,
    ),
    function(
        "histogram_quantile",
        &[Scalar, Vector],
        Arity::Exact,
        Vector,
    ),
    function(
        "histogram_quantiles",
        &[Vector, Text, Scalar, Scalar],
        Arity::UpTo(9),
        Vector,
    )
    .experimental(),
    map("histogram_stddev"),
    map("histogram_stdvar"),
    map("histogram_sum"),
    date("hour"),
    over_time("idelta"),
    over_time("increase"),
    function("info", &[Vector, Vector], Arity::UpTo(1), Vector).experimental(),
    over_time("irate"),
    function(
        "label_join",
        &[Vector, Text, Text, Text],
        Arity::Any,
        Vector,
    ),
    function(
        "label_replace",
        &[Vector, Text, Text, Text, Text],
        Arity::Exact,
        Vector,
    ),
    over_time("last_over_time"),
    map("ln"),
    map("log10"),
    map("log2"),
    over_time("mad_over_time").experimental(),
    function("max_of", &[Scalar, Scalar], Arity::Exact, Scalar).experimental(),
    over_time("max_over_time"),
    function("min_of", &[Scalar, Scalar], Arity::Exact, Scalar).experimental(),
    over_time("min_over_time"),
    date("minute"),
    date("month"),
    constant("pi"),
    function("predict_linear", &[Matrix, Scalar], Arity::Exact, Vector),
    over_time("present_over_time"),
    function(
        "quantile_over_time",
        &[Scalar, Matrix],
        Arity::Exact,
        Vector,
    ),
    map("rad"),
    constant("range").experimental(),
    over_time("rate"),
    over_time("resets"),
    function("round", &[Vector, Scalar], Arity::UpTo(1), Vector),
    function("scalar", &[Vector], Arity::Exact, Scalar),
    map("sgn"),
    map("sin"),
    map("sinh"),
    map("sort"),
    function("sort_by_label", &[Vector, Text], Arity::Any, Vector).experimental(),
    function("sort_by_label_desc", &[Vector, Text], Arity::Any, Vector).experimental(),
    map("sort_desc"),
    map("sqrt"),
    constant("start").experimental(),
    map("start_timestamp").experimental(),
    over_time("stddev_over_time"),
    over_time("stdvar_over_time"),
    constant("step").experimental(),
    over_time("sum_over_time"),
    map("tan"),
    map("tanh"),
    constant("time"),
    map("timestamp"),
    over_time("ts_of_first_over_time").experimental(),
    over_time("ts_of_last_over_time").experimental(),
    over_time("ts_of_max_over_time").experimental(),
    over_time("ts_of_min_over_time").experimental(),
    function("vector", &[Scalar], Arity::Exact, Vector),
    date("year"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_sorted_by_name() {
        assert!(FUNCTIONS.is_sorted_by(|a, b| a.name < b.name));
        for f in FUNCTIONS {
            assert_eq!(Function::find(f.name), Some(f));
        }
        assert_eq!(Function::find("holt_winters"), None);
    }

    #[test]
    fn arities_are_those_of_prometheus() {
        let bounds = |name: &str| {
            let f = Function::find(name).unwrap();
            (f.min_args(), f.max_args())
        };
        assert_eq!(bounds("time"), (0, Some(0)));
        assert_eq!(bounds("hour"), (0, Some(1)));
        assert_eq!(bounds("round"), (1, Some(2)));
        assert_eq!(bounds("label_join"), (3, None));
        assert_eq!(bounds("sort_by_label"), (1, None));
        assert_eq!(bounds("histogram_quantiles"), (3, Some(12)));
    }
}
