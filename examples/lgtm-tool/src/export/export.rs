//! What is to be exported, and in which form.

use lgtm_core::Result;
use lgtm_core::model::{TimeRange, TimestampNs};

use super::{logs, metrics, traces};
use crate::arguments::Arguments;
use crate::output::Output;
use crate::place::{Place, Signal};
use crate::report::{Cell, Report};
use crate::times::Times;

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

/// The times that are asked for; all without `-from` and `-to`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) from: TimestampNs,
    /// In it, too.
    pub(super) to: TimestampNs,
}

impl Window {
    fn read(arguments: &Arguments) -> Result<Self> {
        if arguments.flag("from").is_none() && arguments.flag("to").is_none() {
            return Ok(Self {
                from: TimestampNs::MIN,
                to: TimestampNs::MAX,
            });
        }
        let times = Times::read(arguments)?;
        Ok(Self {
            from: times.from,
            to: times.to,
        })
    }

    /// In milliseconds.
    pub(super) fn range_ms(self) -> TimeRange {
        let (from, to) = (self.from.to_ms(), self.to.to_ms());
        TimeRange::inclusive(from, to)
    }

    pub(super) fn has(self, t: TimestampNs) -> bool {
        self.from <= t && t <= self.to
    }
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
