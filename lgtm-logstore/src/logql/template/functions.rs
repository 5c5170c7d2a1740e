//! The functions by name.

use super::call::Arguments;
use super::execute::Execution;
use super::value::Value;
use super::{builtins, compare, dates, numbers, printf, text};

type Call = fn(&mut Arguments<'_, '_>) -> Result<Value, String>;

/// A known function, as a place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FunctionId(usize);

impl FunctionId {
    pub(super) fn named(name: &str) -> Option<Self> {
        TABLE.iter().position(|(n, _)| *n == name).map(Self)
    }

    fn name(self) -> &'static str {
        TABLE[self.0].0
    }

    pub(super) fn reads_line(self) -> bool {
        self.name() == "__line__"
    }

    /// For `and` and `or`: the truth at which they stop.
    pub(super) fn stops_at(self) -> Option<bool> {
        match self.name() {
            "and" => Some(false),
            "or" => Some(true),
            _ => None,
        }
    }

    /// Calls it.
    pub(super) fn call(
        self,
        execution: &Execution<'_>,
        values: Vec<Value>,
    ) -> Result<Value, String> {
        let (name, call) = TABLE[self.0];
        let mut arguments = Arguments::new(execution, name, values);
        let value = call(&mut arguments).map_err(|e| {
            if arguments.is_misuse(&e) {
                e
            } else {
                format!("error calling {name}: {e}")
            }
        })?;
        Ok(value)
    }
}

/// Names and what they do.
const TABLE: &[(&str, Call)] = &[
    ("__line__", |a| {
        a.none().map(|()| Value::text(a.fields().line()))
    }),
    ("__timestamp__", |a| {
        a.none()
            .map(|()| Value::Time(dates::Moment::of_ns(a.fields().t_ns().get())))
    }),
    ("now", |a| {
        a.none()
            .map(|()| Value::Time(dates::Moment::of_ns(a.fields().now_ns().get())))
    }),
    // Go's own.
    ("and", |_| Ok(Value::Nil)),
    ("or", |_| Ok(Value::Nil)),
    ("not", builtins::not),
    ("len", builtins::len),
    ("index", builtins::index),
    ("slice", builtins::slice),
    ("call", builtins::call),
    ("html", builtins::html),
    ("js", builtins::js),
    ("urlquery", text::url_encode_shown),
    ("print", printf::print),
    ("println", printf::println),
    ("printf", printf::printf),
    ("eq", compare::eq),
    ("ne", compare::ne),
    ("lt", compare::lt),
    ("le", compare::le),
    ("gt", compare::gt),
    ("ge", compare::ge),
    // Texts.
    ("lower", text::lower),
    ("upper", text::upper),
    ("ToLower", text::lower),
    ("ToUpper", text::upper),
    ("title", text::title),
    ("trunc", text::trunc),
    ("substr", text::substr),
    ("contains", text::contains),
    ("hasPrefix", text::has_prefix),
    ("hasSuffix", text::has_suffix),
    ("indent", text::indent),
    ("nindent", text::nindent),
    ("replace", text::replace),
    ("Replace", text::replace_some),
    ("repeat", text::repeat),
    ("trim", text::trim),
    ("TrimSpace", text::trim),
    ("trimAll", text::trim_all),
    ("Trim", text::trim_set),
    ("TrimLeft", text::trim_left),
    ("TrimRight", text::trim_right),
    ("trimPrefix", text::trim_prefix),
    ("trimSuffix", text::trim_suffix),
    ("TrimPrefix", text::old_trim_prefix),
    ("TrimSuffix", text::old_trim_suffix),
    ("alignLeft", text::align_left),
    ("alignRight", text::align_right),
    ("b64enc", text::b64_encode),
    ("b64dec", text::b64_decode),
    ("urlencode", text::url_encode),
    ("urldecode", text::url_decode),
    ("default", builtins::default),
    ("regexReplaceAll", text::regex_replace_all),
    ("regexReplaceAllLiteral", text::regex_replace_literal),
    ("count", text::count),
    ("fromJson", builtins::from_json),
    // Numbers.
    ("int", numbers::int),
    ("float64", numbers::float64),
    ("add", numbers::add),
    ("sub", numbers::sub),
    ("mul", numbers::mul),
    ("div", numbers::div),
    ("mod", numbers::modulo),
    ("max", numbers::max),
    ("min", numbers::min),
    ("addf", numbers::addf),
    ("subf", numbers::subf),
    ("mulf", numbers::mulf),
    ("divf", numbers::divf),
    ("maxf", numbers::maxf),
    ("minf", numbers::minf),
    ("ceil", numbers::ceil),
    ("floor", numbers::floor),
    ("round", numbers::round),
    ("bytes", numbers::bytes),
    ("duration", numbers::duration_seconds),
    ("duration_seconds", numbers::duration_seconds),
    // Times.
    ("date", dates::date),
    ("toDate", dates::to_date),
    ("toDateInZone", dates::to_date_in_zone),
    ("unixEpoch", dates::unix_epoch),
    ("unixEpochMillis", dates::unix_epoch_millis),
    ("unixEpochNanos", dates::unix_epoch_nanos),
    ("unixToTime", dates::unix_to_time),
];
