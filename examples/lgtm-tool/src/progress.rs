//! A bar on standard error while something takes long; nothing where that is no terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often the bar moves by itself.
const TICK: Duration = Duration::from_millis(200);

/// A bar of some steps.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar for `len` steps. It hides itself where standard error is no terminal.
    pub(crate) fn new(what: &'static str, len: usize) -> Self {
        let bar = ProgressBar::new(len as u64);
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg} {eta}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_prefix(what);
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// A step is done; `now` is what is done next.
    pub(crate) fn step(&self, now: &str) {
        self.0.set_message(now.to_owned());
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
