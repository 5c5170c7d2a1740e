//! The example host: reads the settings, joins the components that the target names, serves them over HTTP.

mod allocator;
mod config;
mod host;
mod leave_pages;
mod modules;
mod ops;
mod program_pages;
mod ring_pages;

use std::io::Write;
use std::process::ExitCode;

use config::{Action, Asked};
use lgtm_core::Result;
use modules::Spread;

fn main() -> ExitCode {
    match config::read(std::env::args().skip(1), |name| std::env::var(name).ok()).and_then(act) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            complain(&e.to_string());
            ExitCode::FAILURE
        }
    }
}

fn act(asked: Asked) -> Result<()> {
    let Asked {
        config,
        action,
        warning,
    } = asked;
    let spread = if config.ring.is_cluster() {
        Spread::Cluster
    } else {
        Spread::Alone
    };
    let modules = modules::selected(&config.target, spread)?;
    if action == Action::Run {
        allocator::give_back();
        let own_lines = host::log_to_stderr(&config)?;
        if let Some(warning) = warning {
            tracing::warn!("{warning}");
        }
        return host::run(config, modules, own_lines);
    }
    if let Some(warning) = warning {
        complain(&warning);
    }
    match action {
        Action::Run | Action::Verify => {
            config.check_overrides_file()?;
            say("configuration is valid\n");
        }
        Action::Print => say(&config::documented(&config)),
        Action::Help => say(&config::help()),
    }
    Ok(())
}

fn say(text: &str) {
    // A reader that has gone away is no fault of ours.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn complain(message: &str) {
    let _ = writeln!(std::io::stderr(), "lgtm: {message}");
}
