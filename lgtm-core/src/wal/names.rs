//! Names of the log's files. Only names as we write them are ours: `+103`, `5` or `00000007.bak` are somebody's, and left alone.

/// Highest number of a segment: a log that began a thousand a second would reach it in thirty thousand years. What claims to be a later one is
/// none of ours, and there is always a next number.
const MAX_NUMBER: u64 = 1_000_000_000_000_000;

/// Path of a segment.
pub(super) fn segment_path(dir: &str, number: u64) -> String {
    format!("{dir}/{number:08}")
}

/// Path of a finished checkpoint.
pub(super) fn checkpoint_path(dir: &str, segment: u64) -> String {
    format!("{dir}/checkpoint.{segment:08}")
}

/// Path of a checkpoint that is being written.
pub(super) fn unfinished_path(dir: &str, segment: u64) -> String {
    format!("{}.tmp", checkpoint_path(dir, segment))
}

/// What a file in the log's folder is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileName {
    Segment(u64),
    Checkpoint(u64),
    /// A checkpoint that was being written.
    Unfinished(u64),
    /// The lock, or bytes that a replay set aside.
    Other,
    /// Nothing that the log made.
    Foreign,
}

impl FileName {
    pub(super) fn parse(name: &str) -> Self {
        if name == "lock" {
            return Self::Other;
        }
        if let Some((file, offset)) = name.split_once(".corrupt-")
            && offset.bytes().all(|b| b.is_ascii_digit())
            && Self::parse(file) != Self::Foreign
        {
            return Self::Other;
        }
        let (number, made): (_, fn(u64) -> Self) = match name.strip_prefix("checkpoint.") {
            None => (name, Self::Segment),
            Some(rest) => match rest.strip_suffix(".tmp") {
                None => (rest, Self::Checkpoint),
                Some(rest) => (rest, Self::Unfinished),
            },
        };
        match number.parse::<u64>() {
            Ok(n) if n <= MAX_NUMBER && format!("{n:08}") == number => made(n),
            _ => Self::Foreign,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_as_the_log_writes_them_are_its_own() {
        for (name, is) in [
            ("00000007", FileName::Segment(7)),
            ("100000007", FileName::Segment(100_000_007)),
            ("checkpoint.00000007", FileName::Checkpoint(7)),
            ("checkpoint.00000007.tmp", FileName::Unfinished(7)),
            ("00000007.corrupt-4711", FileName::Other),
            ("checkpoint.00000007.corrupt-8", FileName::Other),
            ("lock", FileName::Other),
        ] {
            assert_eq!(FileName::parse(name), is, "{name}");
        }
        for name in [
            "+103",
            "+0000103",
            "5",
            "0000007",
            "000000007",
            "-0000007",
            "18446744073709551615",
            "00000007.bak",
            "00000007.tmp",
            "00000007.corrupt-x",
            "x.corrupt-7",
            "checkpoint.7",
            "checkpoint.+0000007",
            "",
        ] {
            assert_eq!(FileName::parse(name), FileName::Foreign, "{name}");
        }
    }
}
