//! The level of a line, which becomes the structured metadata `detected_level`.

use memchr::{memchr_iter, memchr2};

/// Name of the metadata that holds the level.
pub const DETECTED_LEVEL: &str = "detected_level";

/// How levels are found.
#[derive(Debug, Clone, Copy)]
pub struct LevelRules<'a> {
    /// Whether they are looked for.
    pub is_on: bool,
    /// Names of labels, metadata and fields that tell it; the first ones count more.
    pub fields: &'a [String],
    /// Objects of a JSON line that are looked into: 1 is the outermost only.
    pub json_max_depth: usize,
}

/// A level as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Level {
    Unknown,
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Critical,
    Fatal,
}

impl Level {
    pub(super) const COUNT: usize = 8;

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Fatal => "fatal",
        }
    }

    /// The level that a value names, in any letter case.
    pub(super) fn from_value(value: &[u8]) -> Option<Self> {
        const NAMES: [(&[u8], Level); 15] = [
            (b"info", Level::Info),
            (b"error", Level::Error),
            (b"warn", Level::Warn),
            (b"debug", Level::Debug),
            (b"warning", Level::Warn),
            (b"err", Level::Error),
            (b"trace", Level::Trace),
            (b"fatal", Level::Fatal),
            (b"critical", Level::Critical),
            (b"inf", Level::Info),
            (b"information", Level::Info),
            (b"wrn", Level::Warn),
            (b"dbg", Level::Debug),
            (b"trc", Level::Trace),
            (b"unknown", Level::Unknown),
        ];
        let named = NAMES.iter().find(|n| n.0.eq_ignore_ascii_case(value));
        named.map(|n| n.1)
    }

    /// The level of OpenTelemetry's `severity_number`, as text.
    pub(super) fn from_severity_number(text: &str) -> Self {
        match text.parse::<i32>() {
            Ok(0) => Self::Unknown,
            Ok(1..=4) => Self::Trace,
            Ok(5..=8) => Self::Debug,
            Ok(9..=12) => Self::Info,
            Ok(13..=16) => Self::Warn,
            Ok(17..=20) => Self::Error,
            Ok(21..=24) => Self::Fatal,
            Ok(_) => Self::Unknown,
            Err(_) => Self::Info,
        }
    }

    /// The level that a line tells: a field of JSON or logfmt, or else the first word that is one.
    pub(super) fn of_line(line: &[u8], rules: &LevelRules<'_>) -> Self {
        let value = if is_json_object(line) {
            json_field(line, rules)
        } else if names_field(line, rules) {
            logfmt_field(line, rules)
        } else {
            None
        };
        let told = value.and_then(Self::from_value);
        match told {
            Some(level) if level != Self::Unknown => level,
            _ => first_word(line),
        }
    }
}

fn is_json_object(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    line.first() == Some(&b'{') && line.last() == Some(&b'}')
}

/// The value of the first key of a JSON object that is one of the fields and holds a string. Looks at the shape only: what is no JSON gives
/// what stands before the fault.
fn json_field<'a>(line: &'a [u8], rules: &LevelRules<'_>) -> Option<&'a [u8]> {
    let mut at = 0;
    // Objects and lists that are open; bit n tells whether the one at depth n is an object.
    let (mut depth, mut objects) = (0usize, 0u64);
    let mut key: Option<&[u8]> = None;
    while at < line.len() {
        match line[at] {
            b'{' | b'[' => {
                depth += 1;
                if depth >= 64 {
                    return None;
                }
                let is_object = u64::from(line[at] == b'{');
                objects = objects & !(1 << depth) | is_object << depth;
                key = None;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                key = None;
                at += 1;
            }
            b',' => {
                key = None;
                at += 1;
            }
            b'"' => {
                let text = string_at(line, at)?;
                at += text.len() + 2;
                let is_in_object = objects >> depth & 1 == 1;
                // Within a list there may be objects, but these are not looked into.
                let is_looked_at = depth <= rules.json_max_depth
                    && is_in_object
                    && (1..depth).all(|d| objects >> d & 1 == 1);
                if !is_looked_at {
                    continue;
                }
                match key.take() {
                    Some(key) => {
                        let is_field = |f: &String| f.as_bytes() == key;
                        if rules.fields.iter().any(is_field) {
                            return Some(text);
                        }
                    }
                    None => {
                        let rest = line[at..].trim_ascii_start();
                        if rest.first() == Some(&b':') {
                            key = Some(text);
                            at = line.len() - rest.len() + 1;
                        }
                    }
                }
            }
            _ => at += 1,
        }
    }
    None
}

/// What stands between the quote at `at` and the next one that no backslash hides.
fn string_at(line: &[u8], at: usize) -> Option<&[u8]> {
    let inner = &line[at + 1..];
    let mut from = 0;
    loop {
        let found = from + memchr2(b'"', b'\\', inner.get(from..)?)?;
        if inner[found] == b'"' {
            return Some(&inner[..found]);
        }
        from = found + 2;
    }
}

/// Whether one of the fields stands in front of a `=`: most lines have none, and need not be taken apart.
fn names_field(line: &[u8], rules: &LevelRules<'_>) -> bool {
    let longest = rules.fields.iter().map(String::len).max().unwrap_or(0);
    memchr_iter(b'=', line).any(|at| {
        let near = &line[at.saturating_sub(longest + 1)..at];
        let is_border = |b: &u8| *b <= b' ' || *b == b'=' || *b == b'"';
        let start = near.iter().rposition(is_border).map_or(0, |n| n + 1);
        let key = &near[start..];
        let is_key = |f: &String| f.as_bytes().eq_ignore_ascii_case(key);
        rules.fields.iter().any(is_key)
    })
}

/// The value of the field that stands first in the list, in any letter case. Stops at what is no pair.
fn logfmt_field<'a>(line: &'a [u8], rules: &LevelRules<'_>) -> Option<&'a [u8]> {
    let mut best: Option<(usize, &[u8])> = None;
    let mut rest = line;
    loop {
        while let [b' ' | b'\t' | b'\n' | b'\r', tail @ ..] = rest {
            rest = tail;
        }
        let is_key = |b: &u8| *b > b' ' && *b != b'=' && *b != b'"';
        let len = rest.iter().take_while(|b| is_key(b)).count();
        let key = &rest[..len];
        rest = &rest[len..];
        match rest.first() {
            None => break,
            Some(b'=') if len > 0 => rest = &rest[1..],
            // A key without a value.
            Some(b) if *b <= b' ' && len > 0 => continue,
            Some(_) => break,
        }
        let value = match rest.first() {
            Some(b'"') => {
                let Some(text) = string_at(rest, 0) else {
                    break;
                };
                rest = &rest[text.len() + 2..];
                text
            }
            _ => {
                let len = rest.iter().take_while(|b| **b > b' ').count();
                let value = &rest[..len];
                if memchr2(b'"', b'=', value).is_some() {
                    break;
                }
                rest = &rest[len..];
                value
            }
        };
        let is_field = |f: &String| f.as_bytes().eq_ignore_ascii_case(key);
        let Some(n) = rules.fields.iter().position(is_field) else {
            continue;
        };
        if best.is_none_or(|(found, _)| n < found) {
            best = Some((n, value));
        }
        if n == 0 {
            break;
        }
    }
    best.map(|(_, value)| value)
}

const LEFT: u8 = 1;
const RIGHT: u8 = 2;
const FIRST: u8 = 4;

/// What each byte may be for a word: behind its left border, in front of its right one, its first letter.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let (left, right, first) = (b" \t\n[({\"'=|", b" \t\n[](){}:,!\"'=|", b"tdfcewiTDFCEWI");
    let mut n = 0;
    while n < left.len() {
        classes[left[n] as usize] |= LEFT;
        n += 1;
    }
    n = 0;
    while n < right.len() {
        classes[right[n] as usize] |= RIGHT;
        n += 1;
    }
    n = 0;
    while n < first.len() {
        classes[first[n] as usize] |= FIRST;
        n += 1;
    }
    classes
};

const WORDS: [(&[u8], Level); 9] = [
    (b"info", Level::Info),
    (b"error", Level::Error),
    (b"warn", Level::Warn),
    (b"debug", Level::Debug),
    (b"warning", Level::Warn),
    (b"err", Level::Error),
    (b"trace", Level::Trace),
    (b"fatal", Level::Fatal),
    (b"critical", Level::Critical),
];

/// The first word of a line that is a level.
fn first_word(line: &[u8]) -> Level {
    let mut before = LEFT;
    for (at, b) in line.iter().enumerate() {
        let class = CLASSES[*b as usize];
        if before & LEFT != 0 && class & FIRST != 0 {
            let rest = &line[at..];
            let len = rest
                .iter()
                .take(9)
                .position(|b| CLASSES[*b as usize] & RIGHT != 0);
            let word = &rest[..len.unwrap_or(rest.len())];
            if (3..=8).contains(&word.len())
                && let Some((_, level)) = WORDS.iter().find(|w| w.0.eq_ignore_ascii_case(word))
            {
                return *level;
            }
        }
        before = class;
    }
    Level::Unknown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn level(line: &str) -> &'static str {
        let fields = ["level", "LEVEL", "Level", "severity", "lvl"].map(str::to_owned);
        let rules = LevelRules {
            is_on: true,
            fields: &fields,
            json_max_depth: 2,
        };
        Level::of_line(line.as_bytes(), &rules).as_str()
    }

    #[test]
    fn lines_tell_their_level() {
        for (line, wanted) in [
            ("", "unknown"),
            ("2024-01-01 ERROR something failed", "error"),
            ("[Warning] disk", "warn"),
            ("an information of no level", "unknown"),
            ("errors happened, terror", "unknown"),
            ("(err) x", "error"),
            ("status:error", "unknown"),
            ("x info: ok, then fatal", "info"),
            ("critical", "critical"),
            ("trace=1 a", "trace"),
            (r#"{"msg":"an error","level":"info"}"#, "info"),
            (r#"{"Level":"WRN","level":"info"}"#, "warn"),
            (r#"{"a":{"level":"debug"}}"#, "debug"),
            (r#"{"a":{"b":{"level":"dbg"}}}"#, "unknown"),
            (r#"{"a":[{"level":"debug"}],"lvl":"trc"}"#, "trace"),
            (r#"{"level":30,"msg":"fatal \" error"}"#, "fatal"),
            (r#"{"level":"notice","msg":"x warn y"}"#, "warn"),
            (r#"{"a\"":"x","level":"info"}"#, "info"),
            ("ts=1 lvl=error msg=\"no warn\" LEVEL=debug", "debug"),
            ("SEVERITY=err x", "error"),
            ("a=b=c level=error", "error"),
            ("a=b \" level=info fatal", "info"),
            ("flag level=info", "info"),
            ("level=\"info", "info"),
        ] {
            assert_eq!(level(line), wanted, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_has_a_level(line in "\\PC*|[{}\\[\\]\",:=\\\\ a-e]*") {
            level(&line);
            level(&format!("{{{line}}}"));
            level(&format!("level={line}"));
        }
    }
}
