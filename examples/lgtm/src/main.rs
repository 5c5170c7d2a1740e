//! The example host: reads the settings, joins the components that the target names, serves them over HTTP.

mod config;
mod host;
mod memory;
mod ops;
mod self_monitor;
mod settings_docs;

use std::io::Write;
use std::process::ExitCode;

use config::{Action, Config};

fn main() -> ExitCode {
    let asked = Config::from_args(std::env::args().skip(1), |name| std::env::var(name).ok());
    let (config, action) = match asked {
        Ok(asked) => asked,
        Err(e) => return fail(&e.to_string()),
    };
    match action {
        Action::Print => say(&settings_docs::documented(&config)),
        Action::Verify => say("configuration is valid\n"),
        Action::Help => say(&settings_docs::help()),
        Action::Run => {
            if let Err(e) = host::run(config) {
                return fail(&e.to_string());
            }
        }
    }
    ExitCode::SUCCESS
}

fn say(text: &str) {
    // A reader that has gone away is no fault of ours.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn fail(message: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "lgtm: {message}");
    ExitCode::FAILURE
}
