//! The command line: what is to be done, and the settings given as flags.
//!
//! A flag is a path in the YAML: `-server.http-listen-port=9009` sets `server: {http_listen_port: 9009}`.

use lgtm_core::{Error, Result};
use serde_norway::Value;

use super::config::Config;
use super::spellings::OldSpellings;
use super::yaml;

/// What the process is to do with its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Run,
    Print,
    Verify,
    Help,
}

/// The command line, taken apart.
struct Arguments {
    action: Action,
    file: Option<String>,
    /// Paths with underscores, and what they are set to.
    flags: Vec<(String, String)>,
}

impl Arguments {
    fn parse(args: impl Iterator<Item = String>) -> Result<Self> {
        let mut found = Self {
            action: Action::Run,
            file: None,
            flags: Vec::new(),
        };
        let mut args = args.peekable();
        while let Some(arg) = args.next() {
            let flag = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'));
            let Some(flag) = flag else {
                return Err(Error::InvalidInput(format!("argument {arg:?} is no flag")));
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, args.next_if(|next| !next.starts_with('-'))),
            };
            match name {
                "config.print" => found.action = Action::Print,
                "config.verify" => found.action = Action::Verify,
                "h" | "help" => found.action = Action::Help,
                "config.file" => found.file = value,
                // A flag without a value switches something on.
                _ => {
                    let value = value.unwrap_or_else(|| "true".into());
                    found.flags.push((name.replace('-', "_"), value));
                }
            }
        }
        Ok(found)
    }
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) config: Config,
    pub(crate) action: Action,
    /// What should be spelled otherwise, a line.
    pub(crate) warning: Option<String>,
}

/// Reads flags and the file that they name.
///
/// # Errors
/// `InvalidInput` for what cannot be read, is unknown (names the nearest) or not valid.
pub(crate) fn read(
    args: impl Iterator<Item = String>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Asked> {
    let arguments = Arguments::parse(args)?;
    let text = match &arguments.file {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|e| Error::InvalidInput(format!("config file {path}: {e}")))?,
        None => String::new(),
    };
    let mut asked = yaml::parse("config file", &yaml::expand(&text, env)?)?;
    let mut old = OldSpellings::new()?;
    old.nest(&mut asked)?;
    let known = Config::known()?;
    for (path, text) in arguments.flags {
        let path = old.path(&path);
        let is_text = yaml::get(&known, &path).is_some_and(Value::is_string);
        yaml::set(&mut asked, &path, yaml::flag_value(text, is_text))?;
    }
    let config = Config::from_value(asked)?;
    config.validate()?;
    Ok(Asked {
        config,
        action: arguments.action,
        warning: old.warning(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lgtm_core::wal::SyncPolicy;

    use super::*;

    fn given(args: &[&str]) -> Result<Config> {
        read(args.iter().map(|a| (*a).to_owned()), |_| None).map(|asked| asked.config)
    }

    #[test]
    fn flags_are_paths_in_both_spellings() {
        let c = given(&[
            "-server.http-listen-port=0",
            "--data.dir",
            "/x",
            "-auth.multitenancy-enabled",
            "-self-monitoring=false",
        ])
        .unwrap();
        assert_eq!((c.server.http_listen_port, c.data.dir.as_str()), (0, "/x"));
        assert!(c.auth.multitenancy_enabled && !c.self_monitoring);
        assert_eq!(c.storage_url(), "file:/x/bucket");
        let c = given(&[
            "-storage.url=memory:",
            "-metrics.ingester.head.wal.sync=!interval 1s",
        ]);
        let c = c.unwrap();
        assert_eq!(c.storage_url(), "memory:");
        let second = SyncPolicy::Interval(Duration::from_secs(1));
        assert_eq!(c.metrics.ingester.head.wal.sync, second);
        for flag in [
            "-limits.metrics.creation-grace-period=1h",
            "-limits.creation-grace-period=1h",
        ] {
            let limits = given(&[flag]).unwrap().limits.metrics;
            assert_eq!(limits.creation_grace_period.as_secs(), 3600);
        }
    }

    #[test]
    fn unknown_names_are_told_with_the_nearest() {
        let error = given(&["-server.http-listen-prt=1"])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("server.http_listen_prt") && error.contains("http_listen_port"),
            "{error}"
        );
        let error = given(&["-limits.ingestion-rte=1"]).unwrap_err().to_string();
        assert!(error.contains("metrics.ingestion_rate"), "{error}");
        let error = given(&["-overrides.a.metrics.ingestion-rte=1"]);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("ingestion_rate"), "{error}");
        assert!(given(&["x"]).is_err());
    }
}
