//! What is to be exported, and in which form.

use lgtm_core::Result;

use super::{logs, metrics, traces};
use crate::arguments::Arguments;
use crate::output::Output;
use crate::place::{Place, Signal};
use crate::report::{Cell, Report};
use crate::times::Window;

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Exported {
    /// Blocks or chunks.
    pub(super) objects: u64,
    /// Samples, lines or spans' traces.
    pub(super) items: u64,
    /// What the form has no words for.
    pub(super) left_out: u64,
}

pub(crate) async fn export(place: &Place, arguments: &Arguments) -> Result<Report> {
    let window = Window::read(arguments)?;
    let signal = match arguments.word(0) {
        Some(object) => place.signal_of(object)?,
        None => place.one_signal()?,
    };
    let mut out = Output::open(arguments)?;
    let exported = match signal {
        Signal::Metrics => metrics::export(place, arguments, window, &mut out).await?,
        Signal::Logs => logs::export(place, arguments, window, &mut out).await?,
        Signal::Traces => traces::export(place, arguments, window, &mut out).await?,
    };
    let mut report = Report::default();
    if out.is_file() {
        let (objects, items) = match signal {
            Signal::Metrics => ("blocks", "samples"),
            Signal::Logs => ("chunks", "lines"),
            Signal::Traces => ("blocks", "traces"),
        };
        report.facts(
            "exported",
            [
                (objects, Cell::Count(exported.objects)),
                (items, Cell::Count(exported.items)),
                ("left out", Cell::Count(exported.left_out)),
                ("size", Cell::Bytes(out.bytes())),
            ],
        );
    }
    out.finish()?;
    Ok(report)
}
