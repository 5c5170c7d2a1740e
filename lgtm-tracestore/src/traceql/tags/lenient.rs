//! Filters that somebody is still typing.

use super::super::ast::Expr;
use super::super::check;
use super::super::error::QueryError;
use super::super::lexer::{Token, tokens};
use super::super::parser::{MAX_QUERY_BYTES, Parser};
use crate::select::Literal;

/// Groups that alternatives may make of a filter.
const MAX_GROUPS: usize = 100;

/// The filter of a query, if it is one filter. A comparison that is not finished counts as true; what does not parse otherwise is no filter.
///
/// # Errors
/// For a filter that becomes more than 100 groups when alternatives are written out.
pub(super) fn filter_of(query: &str) -> Result<Option<Expr>, QueryError> {
    if query.len() > MAX_QUERY_BYTES {
        return Ok(None);
    }
    let Some(filter) = completed(query) else {
        return Ok(None);
    };
    if groups(&filter) > MAX_GROUPS {
        return Err(QueryError::invalid(format!(
            "maximum condition groups reached (limit: {MAX_GROUPS}). Reduce the number of OR conditions in the query"
        )));
    }
    Ok(Some(filter))
}

fn completed(query: &str) -> Option<Expr> {
    let mut tokens = tokens(query);
    let mut n = 1;
    while n < tokens.len() {
        let compares = matches!(
            tokens[n].token,
            Token::Sign("=" | "!=" | "<" | "<=" | ">" | ">=" | "=~" | "!~")
        );
        let is_open = matches!(
            tokens.get(n + 1).map(|t| &t.token),
            Some(Token::Sign("}" | "&&" | "||" | ")") | Token::End)
        );
        if compares && is_open && matches!(tokens[n - 1].token, Token::Field(_)) {
            tokens[n - 1].token = Token::Literal(Literal::Bool(true));
            tokens.remove(n);
        }
        n += 1;
    }
    let filter = Parser::new(tokens).lone_filter().ok().flatten()?;
    check::check_filter(&filter).ok()?;
    Some(filter)
}

fn groups(expr: &Expr) -> usize {
    match expr {
        Expr::Or(all) => all.iter().map(groups).fold(0, usize::saturating_add),
        Expr::And(all) => all.iter().map(groups).fold(1, usize::saturating_mul),
        _ => 1,
    }
}
