//! Matchers as messages.

use super::walk::{Field, put_text, walk};
use crate::codec::protobuf::{put_message, put_varint_field};
use crate::model::{MatchOp, Matcher};
use crate::{Error, Result};

/// `{ op = 1; name = 2; value = 3 }`, op 0 =, 1 !=, 2 =~, 3 !~.
pub fn put_matcher(out: &mut Vec<u8>, number: u64, matcher: &Matcher) {
    let op = match matcher.op() {
        MatchOp::Equal => 0,
        MatchOp::NotEqual => 1,
        MatchOp::Regex => 2,
        MatchOp::NotRegex => 3,
    };
    put_message(out, number, |out| {
        put_varint_field(out, 1, op);
        put_text(out, 2, matcher.name());
        put_text(out, 3, matcher.value());
    });
}

/// A matcher of a message.
///
/// # Errors
/// `InvalidInput` for bytes that are none, and for an expression that does not compile.
pub fn matcher(field: Field<'_>) -> Result<Matcher> {
    let (mut op, mut name, mut value) = (MatchOp::Equal, "", "");
    walk("matcher", field.bytes()?, |number, field| {
        match number {
            1 => {
                op = match field.number()? {
                    0 => MatchOp::Equal,
                    1 => MatchOp::NotEqual,
                    2 => MatchOp::Regex,
                    3 => MatchOp::NotRegex,
                    n => return Err(Error::InvalidInput(format!("unknown matcher {n}"))),
                }
            }
            2 => name = field.text()?,
            3 => value = field.text()?,
            _ => {}
        }
        Ok(())
    })?;
    Matcher::new(op, name, value)
}
