//! Whose language it is.

use lgtm_core::{Error, Result};

use super::{logs, metrics, traces};
use crate::arguments::Arguments;
use crate::place::{Place, Signal};
use crate::report::Report;
use crate::times::Times;

/// Lines or traces without `-limit`.
const DEFAULT_LIMIT: usize = 100;

pub(crate) async fn query(place: &Place, arguments: &Arguments) -> Result<Report> {
    let text = arguments.word(0).unwrap_or_default();
    let times = Times::read(arguments)?;
    let limit = match arguments.flag("limit") {
        None => DEFAULT_LIMIT,
        Some(text) => text
            .parse()
            .map_err(|_| Error::InvalidInput(format!("-limit={text} is no number")))?,
    };
    let tenant = place.one_tenant().await?;
    match place.one_signal()? {
        Signal::Metrics => metrics::query(place, &tenant, text, times).await,
        Signal::Logs => logs::query(place, &tenant, text, times, limit).await,
        Signal::Traces => traces::query(place, &tenant, text, times, limit).await,
    }
}
