//! What became of a push: `{ samples = 1; histograms = 2; exemplars = 3; dropped_exemplars = 4; dropped_metadata = 5; first = 6; rejected = 7;
//! is_over_capacity = 8 }`, the counts by reason repeated.

use std::collections::HashMap;

use lgtm_core::Result;
use lgtm_core::codec::protobuf::{put_message, put_varint_field};
use lgtm_core::rpc::messages::{Field, count, put_counts, put_text, walk};

use crate::head::{AppendReport, ReasonId, Rejection};

pub(super) fn put_report(out: &mut Vec<u8>, report: &AppendReport) {
    put_varint_field(out, 1, report.samples);
    put_varint_field(out, 2, report.histograms);
    put_varint_field(out, 3, report.exemplars);
    put_reasons(out, 4, &report.dropped_exemplars);
    put_reasons(out, 5, &report.dropped_metadata);
    if let Some(first) = &report.rejected.first {
        put_message(out, 6, |out| {
            put_text(out, 1, &first.reason);
            put_text(out, 2, &first.message);
        });
    }
    put_reasons(out, 7, &report.rejected.samples);
    put_varint_field(out, 8, u64::from(report.is_over_capacity));
}

fn put_reasons(out: &mut Vec<u8>, number: u64, reasons: &HashMap<ReasonId, u64>) {
    put_counts(out, number, reasons.iter().map(|(r, n)| (r.as_ref(), *n)));
}

/// A report.
///
/// # Errors
/// `InvalidInput` for bytes that are none.
pub(super) fn report(message: &[u8]) -> Result<AppendReport> {
    let mut out = AppendReport::default();
    walk("report", message, |number, field| {
        match number {
            1 => out.samples = field.number()?,
            2 => out.histograms = field.number()?,
            3 => out.exemplars = field.number()?,
            4 => add_reason(&mut out.dropped_exemplars, field)?,
            5 => add_reason(&mut out.dropped_metadata, field)?,
            6 => out.rejected.first = Some(rejection(field.bytes()?)?),
            7 => add_reason(&mut out.rejected.samples, field)?,
            8 => out.is_over_capacity = field.flag()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

fn add_reason(reasons: &mut HashMap<ReasonId, u64>, field: Field<'_>) -> Result<()> {
    let (reason, n) = count(field)?;
    reasons.insert(reason.into(), n);
    Ok(())
}

fn rejection(message: &[u8]) -> Result<Rejection> {
    let (mut reason, mut text) = (String::new(), String::new());
    walk("rejection", message, |number, field| {
        match number {
            1 => reason = field.string()?,
            2 => text = field.string()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(Rejection {
        reason: reason.into(),
        message: text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_report_arrives_as_it_was() {
        let mut full = AppendReport {
            samples: 1,
            histograms: u64::MAX,
            exemplars: 3,
            is_over_capacity: true,
            ..AppendReport::default()
        };
        full.dropped_exemplars.insert("a".into(), 7);
        full.dropped_metadata.insert("b".into(), 8);
        full.rejected.add("c", 9, || "wörds".into());
        full.rejected.add("d", 10, String::new);
        for wanted in [AppendReport::default(), full] {
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
