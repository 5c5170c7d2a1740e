//! What became of a push.
//!
//! ```text
//! report  = { spans = 1; bytes = 2; refused = 3, repeated }
//! refused = { rule = 1; spans = 2; message = 3 }      a rule is its name in metrics
//! ```

use lgtm_core::codec::protobuf::{put_message, put_varint_field};
use lgtm_core::rpc::messages::{Field, put_text, walk};
use lgtm_core::{Error, Result};

use crate::limits::PushReport;
use crate::wire::SpanRule;

pub(super) fn put_report(out: &mut Vec<u8>, report: &PushReport) {
    put_varint_field(out, 1, report.spans);
    put_varint_field(out, 2, report.bytes);
    for (rule, spans) in &report.refused {
        put_message(out, 3, |out| {
            put_text(out, 1, rule.id());
            put_varint_field(out, 2, *spans);
            if let Some(message) = report.messages.get(rule) {
                put_text(out, 3, message);
            }
        });
    }
}

/// A report.
///
/// # Errors
/// `InvalidInput` for bytes that are none, and for rules that this version does not know.
pub(super) fn report(message: &[u8]) -> Result<PushReport> {
    let mut out = PushReport::default();
    walk("report", message, |number, field| {
        match number {
            1 => out.spans = field.number()?,
            2 => out.bytes = field.number()?,
            3 => refused(field, &mut out)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

fn refused(field: Field<'_>, out: &mut PushReport) -> Result<()> {
    let (mut id, mut spans, mut message) = ("", 0, None);
    walk("refused", field.bytes()?, |number, field| {
        match number {
            1 => id = field.text()?,
            2 => spans = field.number()?,
            3 => message = Some(field.string()?),
            _ => {}
        }
        Ok(())
    })?;
    let rule = SpanRule::of_id(id);
    let rule = rule.ok_or_else(|| Error::InvalidInput(format!("unknown rule {id:?}")))?;
    out.refused.insert(rule, spans);
    out.messages.extend(message.map(|message| (rule, message)));
    Ok(())
}
