//! What became of a push.
//!
//! ```text
//! report  = { entries = 1; bytes = 2; duplicates = 3; refused = 4, repeated; invalid = 5, repeated; ignored = 6, repeated; whole = 7 }
//! refused = { rule = 1; entries = 2; bytes = 3 }                 a rule is its name in metrics
//! invalid = { rule = 1; message = 2 }
//! ignored = { stream = 1; rule = 2; message = 3, repeated; ignored = 4; came = 5 }
//! whole   = { status = 1; message = 2; retry_after_ms = 3 }      the last left out where it is not known
//! ```

use std::time::Duration;

use lgtm_core::codec::protobuf::{put_message, put_varint_field};
use lgtm_core::rpc::messages::{Field, put_text, walk};
use lgtm_core::{Error, Result};

use crate::limits::{IgnoredEntries, PushRefusal, PushReport, PushRule, Refused};

pub(super) fn put_report(out: &mut Vec<u8>, report: &PushReport) {
    put_varint_field(out, 1, report.entries);
    put_varint_field(out, 2, report.bytes);
    put_varint_field(out, 3, report.duplicates);
    for (rule, refused) in &report.refused {
        put_message(out, 4, |out| {
            put_text(out, 1, rule.id());
            put_varint_field(out, 2, refused.entries);
            put_varint_field(out, 3, refused.bytes);
        });
    }
    for (rule, message) in &report.invalid {
        put_message(out, 5, |out| {
            put_text(out, 1, rule.id());
            put_text(out, 2, message);
        });
    }
    for ignored in &report.ignored {
        put_message(out, 6, |out| {
            put_text(out, 1, &ignored.stream);
            put_text(out, 2, ignored.rule.id());
            ignored.messages.iter().for_each(|m| put_text(out, 3, m));
            put_varint_field(out, 4, ignored.ignored);
            put_varint_field(out, 5, ignored.came);
        });
    }
    if let Some(whole) = &report.whole {
        put_message(out, 7, |out| {
            put_varint_field(out, 1, u64::from(whole.status));
            put_text(out, 2, &whole.message);
            if let Some(after) = whole.retry_after {
                let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                put_varint_field(out, 3, ms);
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
            1 => out.entries = field.number()?,
            2 => out.bytes = field.number()?,
            3 => out.duplicates = field.number()?,
            4 => {
                let (rule, refused) = refused(field)?;
                out.refused.insert(rule, refused);
            }
            5 => out.invalid.push(invalid(field)?),
            6 => out.ignored.push(ignored(field)?),
            7 => out.whole = Some(whole(field)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

fn rule(field: Field<'_>) -> Result<PushRule> {
    let id = field.text()?;
    PushRule::of_id(id).ok_or_else(|| Error::InvalidInput(format!("unknown rule {id:?}")))
}

fn refused(field: Field<'_>) -> Result<(PushRule, Refused)> {
    let mut out = (PushRule::RateLimited, Refused::default());
    walk("refused", field.bytes()?, |number, field| {
        match number {
            1 => out.0 = rule(field)?,
            2 => out.1.entries = field.number()?,
            3 => out.1.bytes = field.number()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

fn invalid(field: Field<'_>) -> Result<(PushRule, String)> {
    let mut out = (PushRule::RateLimited, String::new());
    walk("invalid", field.bytes()?, |number, field| {
        match number {
            1 => out.0 = rule(field)?,
            2 => out.1 = field.string()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

fn ignored(field: Field<'_>) -> Result<IgnoredEntries> {
    let mut out = IgnoredEntries {
        stream: String::new(),
        rule: PushRule::RateLimited,
        messages: Vec::new(),
        ignored: 0,
        came: 0,
    };
    walk("ignored", field.bytes()?, |number, field| {
        match number {
            1 => out.stream = field.string()?,
            2 => out.rule = rule(field)?,
            3 => out.messages.push(field.string()?),
            4 => out.ignored = field.number()?,
            5 => out.came = field.number()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

fn whole(field: Field<'_>) -> Result<PushRefusal> {
    let mut out = PushRefusal {
        status: 0,
        message: String::new(),
        retry_after: None,
    };
    walk("whole", field.bytes()?, |number, field| {
        match number {
            1 => out.status = u16::try_from(field.number()?).unwrap_or(500),
            2 => out.message = field.string()?,
            3 => out.retry_after = Some(Duration::from_millis(field.number()?)),
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_report_arrives_as_it_was() {
        let mut full = PushReport {
            entries: 1,
            bytes: u64::MAX,
            duplicates: 3,
            invalid: vec![(PushRule::LineTooLong, "wörds".into())],
            whole: Some(PushRefusal {
                status: 429,
                message: "slow".into(),
                retry_after: Some(Duration::from_millis(1500)),
            }),
            ..PushReport::default()
        };
        for rule in PushRule::ALL {
            let refused = Refused {
                entries: 2,
                bytes: 9,
            };
            full.refused.insert(rule, refused);
        }
        full.ignored.push(IgnoredEntries {
            stream: "{a=\"b\"}".into(),
            rule: PushRule::TooFarBehind,
            messages: vec!["one".into(), String::new()],
            ignored: 2,
            came: 7,
        });
        for wanted in [PushReport::default(), full] {
            let mut out = Vec::new();
            put_report(&mut out, &wanted);
            assert_eq!(report(&out).unwrap(), wanted);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = report(&bytes);
        }
    }
}
