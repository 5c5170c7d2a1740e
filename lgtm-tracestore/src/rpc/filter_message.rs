//! Which spans are of interest.
//!
//! ```text
//! filter    = { kind = 1; test = 2; of = 3, repeated }      kind 0 everything, 1 nothing, 2 a test, 3 all, 4 any
//! test      = { intrinsic = 1 | scope = 2, name = 3; kind = 4; op = 5; literals = 6, repeated; patterns = 7, repeated }
//!                                                            kind 0 exists, 1 compare, 2 in, 3 matches
//! literal   = { int = 2 | float = 3 | text = 4 | bool = 5 | duration = 6 | status = 7 | kind = 8 }; none of them: nil
//! ```
//!
//! A filter may let others through: what is nested deeper than the bound is sent as one that everything passes.

use lgtm_core::codec::protobuf::{put_message, put_varint_field};
use lgtm_core::rpc::messages::{Field as MessageField, put_double, put_text, walk};
use lgtm_core::{Error, Result};

use crate::select::{
    AttributeScope, CompareOp, Condition, Field, Intrinsic, Literal, SpanFilter, Test,
};
use crate::trace::{SpanKind, StatusCode};

/// How deep filters may be nested.
const MAX_DEPTH: usize = 64;

/// By their numbers, from 1 on.
const INTRINSICS: [Intrinsic; 22] = [
    Intrinsic::Duration,
    Intrinsic::Name,
    Intrinsic::Status,
    Intrinsic::StatusMessage,
    Intrinsic::Kind,
    Intrinsic::SpanId,
    Intrinsic::ParentId,
    Intrinsic::ChildCount,
    Intrinsic::StartTime,
    Intrinsic::NestedSetLeft,
    Intrinsic::NestedSetRight,
    Intrinsic::NestedSetParent,
    Intrinsic::TraceDuration,
    Intrinsic::RootName,
    Intrinsic::RootService,
    Intrinsic::TraceId,
    Intrinsic::EventName,
    Intrinsic::EventTimeSinceStart,
    Intrinsic::LinkTraceId,
    Intrinsic::LinkSpanId,
    Intrinsic::ScopeName,
    Intrinsic::ScopeVersion,
];

/// By their numbers, from 1 on.
const SCOPES: [AttributeScope; 6] = [
    AttributeScope::Any,
    AttributeScope::Resource,
    AttributeScope::Span,
    AttributeScope::Event,
    AttributeScope::Link,
    AttributeScope::Instrumentation,
];

/// By their numbers, from 0 on.
const OPS: [CompareOp; 6] = [
    CompareOp::Equal,
    CompareOp::NotEqual,
    CompareOp::Less,
    CompareOp::LessOrEqual,
    CompareOp::Greater,
    CompareOp::GreaterOrEqual,
];

/// Appends a filter as a field of that number.
pub(super) fn put_filter(out: &mut Vec<u8>, number: u64, filter: &SpanFilter) {
    put_nested(out, number, filter, 0);
}

fn put_nested(out: &mut Vec<u8>, number: u64, filter: &SpanFilter, depth: usize) {
    put_message(out, number, |out| match filter {
        SpanFilter::Nothing => put_varint_field(out, 1, 1),
        SpanFilter::Test(condition) => {
            put_varint_field(out, 1, 2);
            put_message(out, 2, |out| put_condition(out, condition));
        }
        SpanFilter::All(of) | SpanFilter::Any(of) if depth < MAX_DEPTH => {
            let is_any = matches!(filter, SpanFilter::Any(_));
            put_varint_field(out, 1, 3 + u64::from(is_any));
            of.iter().for_each(|f| put_nested(out, 3, f, depth + 1));
        }
        SpanFilter::Everything | SpanFilter::All(_) | SpanFilter::Any(_) => {}
    });
}

fn put_condition(out: &mut Vec<u8>, condition: &Condition) {
    match &condition.field {
        Field::Intrinsic(intrinsic) => {
            let at = INTRINSICS.iter().position(|i| i == intrinsic);
            put_varint_field(out, 1, at.map_or(0, |n| n as u64 + 1));
        }
        Field::Attribute(scope, name) => {
            let at = SCOPES.iter().position(|s| s == scope);
            put_varint_field(out, 2, at.map_or(0, |n| n as u64 + 1));
            put_text(out, 3, name);
        }
    }
    match &condition.test {
        Test::Exists => {}
        Test::Compare(op, literal) => {
            put_varint_field(out, 4, 1);
            let at = OPS.iter().position(|o| o == op);
            put_varint_field(out, 5, at.map_or(0, |n| n as u64));
            put_literal(out, literal);
        }
        Test::In(literals) => {
            put_varint_field(out, 4, 2);
            literals.iter().for_each(|l| put_literal(out, l));
        }
        Test::Matches(patterns) => {
            put_varint_field(out, 4, 3);
            patterns.iter().for_each(|p| put_text(out, 7, p));
        }
    }
}

fn put_literal(out: &mut Vec<u8>, literal: &Literal) {
    // A value of zero is one, too: the field says of which type it is.
    put_message(out, 6, |out| match literal {
        Literal::Nil => {}
        Literal::Int(v) => put_varint_field(out, 2, *v as u64),
        Literal::Float(v) => put_double(out, 3, *v),
        Literal::Text(text) => put_text(out, 4, text),
        Literal::Bool(v) => put_varint_field(out, 5, u64::from(*v)),
        Literal::Duration(v) => put_varint_field(out, 6, *v as u64),
        Literal::Status(code) => put_varint_field(out, 7, *code as u64),
        Literal::Kind(kind) => put_varint_field(out, 8, *kind as u64),
    });
}

/// Reads such a field.
///
/// # Errors
/// `InvalidInput` for bytes that are none, and for what this version does not know.
pub(super) fn filter(field: MessageField<'_>) -> Result<SpanFilter> {
    nested(field, 0)
}

fn unknown(what: &str, n: u64) -> Error {
    Error::InvalidInput(format!("unknown {what} {n}"))
}

fn nested(field: MessageField<'_>, depth: usize) -> Result<SpanFilter> {
    if depth > MAX_DEPTH {
        return Err(Error::InvalidInput(format!(
            "a filter is nested deeper than {MAX_DEPTH}"
        )));
    }
    let (mut kind, mut test, mut of) = (0, None, Vec::new());
    walk("filter", field.bytes()?, |number, field| {
        match number {
            1 => kind = field.number()?,
            2 => test = Some(condition(field)?),
            3 => of.push(nested(field, depth + 1)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(match (kind, test) {
        (0, _) => SpanFilter::Everything,
        (1, _) => SpanFilter::Nothing,
        (2, Some(condition)) => SpanFilter::Test(condition),
        (3, _) => SpanFilter::All(of),
        (4, _) => SpanFilter::Any(of),
        (n, _) => return Err(unknown("filter", n)),
    })
}

fn condition(field: MessageField<'_>) -> Result<Condition> {
    let (mut intrinsic, mut scope, mut name) = (0, 0, "");
    let (mut kind, mut op) = (0, 0);
    let (mut literals, mut patterns) = (Vec::new(), Vec::new());
    walk("test", field.bytes()?, |number, field| {
        match number {
            1 => intrinsic = field.number()?,
            2 => scope = field.number()?,
            3 => name = field.text()?,
            4 => kind = field.number()?,
            5 => op = field.number()?,
            6 => literals.push(literal(field)?),
            7 => patterns.push(field.string()?),
            _ => {}
        }
        Ok(())
    })?;
    fn of<T: Copy>(table: &[T], number: u64, what: &str) -> Result<T> {
        let at = number.checked_sub(1).and_then(|n| usize::try_from(n).ok());
        let found = at.and_then(|n| table.get(n).copied());
        found.ok_or_else(|| unknown(what, number))
    }
    let field = match scope {
        0 => Field::Intrinsic(of(&INTRINSICS, intrinsic, "intrinsic")?),
        scope => Field::attribute(of(&SCOPES, scope, "scope")?, name),
    };
    let test = match kind {
        0 => Test::Exists,
        1 => {
            let op = of(&OPS, op.saturating_add(1), "operator")?;
            let literal = literals.pop().unwrap_or(Literal::Nil);
            Test::Compare(op, literal)
        }
        2 => Test::In(literals),
        3 => Test::Matches(patterns),
        n => return Err(unknown("test", n)),
    };
    Ok(Condition { field, test })
}

fn literal(field: MessageField<'_>) -> Result<Literal> {
    let mut out = Literal::Nil;
    walk("literal", field.bytes()?, |number, field| {
        out = match number {
            2 => Literal::Int(field.number()? as i64),
            3 => Literal::Float(field.double()?),
            4 => Literal::Text(field.string()?),
            5 => Literal::Bool(field.flag()?),
            6 => Literal::Duration(field.number()? as i64),
            7 => {
                let n = field.number()?;
                let code = i32::try_from(n).ok().and_then(StatusCode::of_number);
                Literal::Status(code.ok_or_else(|| unknown("status", n))?)
            }
            8 => {
                let n = field.number()?;
                let kind = i32::try_from(n).ok().and_then(SpanKind::of_number);
                Literal::Kind(kind.ok_or_else(|| unknown("kind", n))?)
            }
            _ => return Ok(()),
        };
        Ok(())
    })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn back(filter: &SpanFilter) -> SpanFilter {
        let mut out = Vec::new();
        put_filter(&mut out, 3, filter);
        let mut found = SpanFilter::Nothing;
        walk("message", &out, |number, field| {
            assert_eq!(number, 3);
            found = super::filter(field)?;
            Ok(())
        })
        .unwrap();
        found
    }

    fn literals() -> impl Strategy<Value = Literal> {
        prop_oneof![
            Just(Literal::Nil),
            any::<i64>().prop_map(Literal::Int),
            any::<f64>()
                .prop_filter("equal to itself", |v| !v.is_nan())
                .prop_map(Literal::Float),
            ".{0,5}".prop_map(Literal::Text),
            any::<bool>().prop_map(Literal::Bool),
            any::<i64>().prop_map(Literal::Duration),
            Just(Literal::Status(StatusCode::Unset)),
            Just(Literal::Status(StatusCode::Error)),
            (0i32..6).prop_map(|n| Literal::Kind(SpanKind::of_number(n).unwrap())),
        ]
    }

    fn filters() -> impl Strategy<Value = SpanFilter> {
        let field = prop_oneof![
            (0usize..22).prop_map(|n| Field::Intrinsic(INTRINSICS[n])),
            (0usize..6, ".{0,5}").prop_map(|(n, name)| Field::attribute(SCOPES[n], name)),
        ];
        let test = prop_oneof![
            Just(Test::Exists),
            (0usize..6, literals()).prop_map(|(n, l)| Test::Compare(OPS[n], l)),
            prop::collection::vec(literals(), 0..3).prop_map(Test::In),
            prop::collection::vec(".{0,4}", 0..3).prop_map(Test::Matches),
        ];
        let leaf = prop_oneof![
            Just(SpanFilter::Everything),
            Just(SpanFilter::Nothing),
            (field, test).prop_map(|(field, test)| SpanFilter::Test(Condition { field, test })),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(SpanFilter::All),
                prop::collection::vec(inner, 0..4).prop_map(SpanFilter::Any),
            ]
        })
    }

    #[test]
    fn what_is_nested_too_deep_lets_everything_through() {
        let mut filter = SpanFilter::Nothing;
        for _ in 0..MAX_DEPTH + 10 {
            filter = SpanFilter::Any(vec![filter]);
        }
        let mut back = back(&filter);
        for _ in 0..MAX_DEPTH {
            let SpanFilter::Any(mut of) = back else {
                panic!("any")
            };
            back = of.pop().unwrap();
        }
        assert_eq!(back, SpanFilter::Everything);
        // And whoever sends more is refused.
        let mut message = Vec::new();
        for _ in 0..1000 {
            let inner = std::mem::take(&mut message);
            put_varint_field(&mut message, 1, 3);
            lgtm_core::codec::protobuf::put_bytes_field(&mut message, 3, &inner);
        }
        let error = super::filter(MessageField::Bytes(&message)).unwrap_err();
        assert!(error.to_string().contains("nested deeper"), "{error}");
    }

    proptest! {
        #[test]
        fn filters_arrive_as_they_were(filter in filters()) {
            prop_assert_eq!(back(&filter), filter);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = super::filter(MessageField::Bytes(&bytes));
            let _ = condition(MessageField::Bytes(&bytes));
        }
    }
}
