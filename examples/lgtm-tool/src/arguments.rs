//! The command line: `lgtm-tool COMMAND URL [OBJECT] [-flag=value]`. Flags are spelled as the host's: one dash or two, `=` or a space.

use std::collections::BTreeMap;

use lgtm_core::{Error, Result};

/// A command, as the help shows it.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// What stands behind the name.
    pub(crate) usage: &'static str,
    /// How many words there may be behind the name, at least and at most.
    pub(crate) words: (usize, usize),
    /// Flags that it knows beside those of all.
    pub(crate) flags: &'static [&'static str],
    pub(crate) help: &'static str,
}

/// Flags without a value.
const SWITCHES: &[&str] = &["json", "write", "help"];
/// Flags of all commands.
const COMMON: &[&str] = &["json", "help", "signal", "tenant", "schema"];

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        name: "ls",
        usage: "URL",
        words: (1, 1),
        flags: &[],
        help: "tenants with their blocks, chunks and bytes; with -tenant each block, or each index table",
    },
    Command {
        name: "inspect",
        usage: "URL OBJECT",
        words: (2, 2),
        flags: &[],
        help: "what is in a block, an index file, a chunk, a side file or a list of blocks; sizes by section, column and label",
    },
    Command {
        name: "query",
        usage: "URL QUERY",
        words: (2, 2),
        flags: &["from", "to", "time", "step", "limit"],
        help: "a query in PromQL, LogQL or TraceQL straight on the bucket",
    },
    Command {
        name: "verify",
        usage: "URL [OBJECT]",
        words: (1, 2),
        flags: &[],
        help: "every checksum, count, time and reference, of the bucket or of one block, index file or chunk",
    },
    Command {
        name: "cardinality",
        usage: "URL",
        words: (1, 1),
        flags: &["from", "to", "limit"],
        help: "series or streams of a tenant: how many, by metric name, by label and by value",
    },
    Command {
        name: "export",
        usage: "URL [OBJECT]",
        words: (1, 2),
        flags: &["from", "to", "out"],
        help: "a tenant's data, or that of one block or chunk: metrics as OpenMetrics, logs and traces as lines of JSON that are bodies of pushes (Loki's, OTLP's)",
    },
    Command {
        name: "import",
        usage: "URL FILE",
        words: (2, 2),
        flags: &["write"],
        help: "what export writes becomes blocks or chunks of -tenant, of -signal; FILE - is standard input",
    },
    Command {
        name: "backfill",
        usage: "URL FOLDER...",
        words: (2, usize::MAX),
        flags: &["write"],
        help: "blocks of metrics on this machine, as Prometheus and promtool write them, become those of -tenant; each is verified first",
    },
    Command {
        name: "delete",
        usage: "URL WHAT...",
        words: (2, usize::MAX),
        flags: &["from", "to", "write"],
        help: "metrics: blocks by their ids, or all for the tenant; logs: what a query selects; traces: by ids, or what a query selects. Without -write only told",
    },
    Command {
        name: "compact",
        usage: "URL",
        words: (1, 1),
        flags: &["write"],
        help: "one round of compaction; nothing goes for its age. Not beside a compactor that runs",
    },
];

const FLAGS: &[(&str, &str)] = &[
    ("json", "print JSON rather than tables"),
    (
        "signal",
        "only metrics, logs or traces; also says what stands at URL where it cannot be told by looking",
    ),
    ("tenant", "only this tenant"),
    (
        "from",
        "the beginning of a range: RFC 3339, or seconds since 1970; by default an hour before its end",
    ),
    ("to", "the end of a range; by default now"),
    ("time", "when an instant query is asked; by default now"),
    (
        "step",
        "between the values of a range; by default a hundredth of it",
    ),
    ("limit", "most lines or traces; by default 100"),
    (
        "schema",
        "a YAML file with Loki's schema_config, where index tables are not below index/index_",
    ),
    (
        "out",
        "the file to write, which must not be there yet; standard output without it",
    ),
    (
        "write",
        "let the command change the bucket; without it import, backfill and compact refuse, and delete tells what it would do",
    ),
    ("help", "print this"),
];

/// The command line, taken apart.
pub(crate) struct Arguments {
    pub(crate) command: &'static Command,
    words: Vec<String>,
    flags: BTreeMap<String, String>,
}

/// What to do instead of a command.
pub(crate) enum Parsed {
    Do(Arguments),
    Help,
}

impl Arguments {
    /// Takes the command line apart.
    ///
    /// # Errors
    /// `InvalidInput` naming what is not known, missing or too much.
    pub(crate) fn parse(args: &[String]) -> Result<Parsed> {
        let mut words = Vec::new();
        let mut flags = BTreeMap::new();
        let mut args = args.iter().cloned().peekable();
        while let Some(arg) = args.next() {
            let flag = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'));
            let Some(flag) = flag.filter(|f| !f.is_empty()) else {
                words.push(arg);
                continue;
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (flag.to_owned(), None),
            };
            let name = if name == "h" { "help".into() } else { name };
            let value = match value {
                Some(value) => value,
                None if SWITCHES.contains(&name.as_str()) => "true".into(),
                None => (args.next())
                    .ok_or_else(|| Error::InvalidInput(format!("flag -{name} lacks its value")))?,
            };
            flags.insert(name, value);
        }
        if flags.contains_key("help") || words.is_empty() {
            return Ok(Parsed::Help);
        }
        let name = words.remove(0);
        let Some(command) = COMMANDS.iter().find(|c| c.name == name) else {
            let names: Vec<_> = COMMANDS.iter().map(|c| c.name).collect();
            return Err(Error::InvalidInput(format!(
                "command {name:?} is not known, there are {}",
                names.join(", ")
            )));
        };
        let known = |flag: &str| COMMON.contains(&flag) || command.flags.contains(&flag);
        if let Some(unknown) = flags.keys().find(|f| !known(f)) {
            return Err(Error::InvalidInput(format!(
                "flag -{unknown} is not known to {name}"
            )));
        }
        let (least, most) = command.words;
        if !(least..=most).contains(&words.len()) {
            return Err(Error::InvalidInput(format!(
                "{name} takes {}, there are {} words",
                command.usage,
                words.len()
            )));
        }
        Ok(Parsed::Do(Self {
            command,
            words,
            flags,
        }))
    }

    /// Where the bucket is.
    pub(crate) fn url(&self) -> &str {
        &self.words[0]
    }

    /// A word behind the URL.
    pub(crate) fn word(&self, n: usize) -> Option<&str> {
        self.words.get(n + 1).map(String::as_str)
    }

    /// All words behind the URL.
    pub(crate) fn words(&self) -> &[String] {
        &self.words[1..]
    }

    /// Whether the bucket may be changed.
    ///
    /// # Errors
    /// `InvalidInput` without `-write`.
    pub(crate) fn must_write(&self) -> Result<()> {
        match self.is_set("write") {
            true => Ok(()),
            false => Err(Error::InvalidInput(format!(
                "{} changes the bucket: say -write",
                self.command.name
            ))),
        }
    }

    /// The value of a flag.
    pub(crate) fn flag(&self, name: &str) -> Option<&str> {
        self.flags.get(name).map(String::as_str)
    }

    /// Whether a flag without a value is set.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.flag(name).is_some_and(|v| v != "false")
    }
}

/// The help.
pub(crate) fn help() -> String {
    let mut out = String::from(
        "lgtm-tool COMMAND URL [WORDS] [-flag=value]\n\nURL names a bucket as -storage.url of the host does: file:DIR, s3://bucket/prefix, gs://…, az://….\nIt may be the whole bucket of a host, or the place of one signal.\n\nCommands:\n",
    );
    for command in COMMANDS {
        out += &format!(
            "  {} {}\n      {}\n",
            command.name, command.usage, command.help
        );
    }
    out += "\nFlags:\n";
    for (name, help) in FLAGS {
        out += &format!("  -{name:<10} {help}\n");
    }
    out += "\nExit code: 0 fine, 1 something was found or failed, 2 the command line is wrong.\n";
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Parsed> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Arguments::parse(&words)
    }

    #[test]
    fn flags_are_spelled_with_one_dash_or_two() {
        for line in [
            "ls file:/x -json -tenant=a",
            "--tenant a ls file:/x --json",
            "ls --json=true file:/x -tenant a",
        ] {
            let Ok(Parsed::Do(arguments)) = parse(line) else {
                panic!("{line}");
            };
            assert_eq!(arguments.command.name, "ls");
            assert_eq!(arguments.url(), "file:/x");
            assert_eq!(arguments.flag("tenant"), Some("a"));
            assert!(arguments.is_set("json") && !arguments.is_set("write"));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, why) in [
            ("list file:/x", "command \"list\" is not known"),
            ("ls", "ls takes URL, there are 0 words"),
            ("inspect file:/x", "URL OBJECT"),
            ("ls file:/x -colour", "lacks its value"),
            ("ls file:/x -colour=red", "flag -colour is not known to ls"),
        ] {
            let Err(e) = parse(line) else {
                panic!("{line}");
            };
            assert!(e.to_string().contains(why), "{line}: {e}");
        }
        assert!(matches!(parse("ls -h"), Ok(Parsed::Help)));
        assert!(matches!(parse(""), Ok(Parsed::Help)));
    }

    #[test]
    fn every_flag_and_command_is_in_the_help() {
        let help = help();
        for command in COMMANDS {
            assert!(help.contains(command.name));
            for flag in command.flags.iter().chain(COMMON) {
                assert!(FLAGS.iter().any(|(name, _)| name == flag), "{flag}");
            }
        }
    }
}
