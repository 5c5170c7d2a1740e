//! Entries that were counted already.

use lgtm_core::model::{Labels, TimeRangeNs, TimestampNs};

/// Which counts may come in the place of entries. Plain data, which can be sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CountWish {
    /// Times, nanoseconds, ascending: entries are counted apart that lie on two sides of one, one at the time itself among those before it.
    pub edges: Vec<TimestampNs>,
    /// Labels that the reader looks at, beside those of streams; `None`: all. An entry counts only if it has none of them as structured metadata but
    /// `detected_level`.
    pub labels: Option<Vec<String>>,
    /// Times in which others hold entries, some of which may be the same: there nothing is counted.
    pub except: Vec<TimeRangeNs>,
}

impl CountWish {
    /// The part between two edges that a time is in.
    pub fn part_of(&self, t_ns: TimestampNs) -> usize {
        self.edges.partition_point(|edge| *edge < t_ns)
    }

    /// Whether the reader may look at structured metadata of this name, which an entry of the stream has.
    pub fn looks_at(&self, name: &str, stream: &Labels) -> bool {
        let Some(labels) = &self.labels else {
            return true;
        };
        match stream.get(name) {
            None => labels.iter().any(|l| l == name),
            // It goes by another name then.
            Some(_) => labels
                .iter()
                .any(|l| l.strip_suffix("_extracted") == Some(name)),
        }
    }
}

/// Entries of one stream and level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamCounts {
    /// Labels of the stream.
    pub labels: Labels,
    /// What the entries have as structured metadata `detected_level`, if they have it.
    pub level: Option<String>,
    /// How many there are.
    pub cells: Vec<CountCell>,
}

/// Entries that no edge lies between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountCell {
    /// A time between the same edges, nanoseconds.
    pub t_ns: TimestampNs,
    /// Entries, more than 0.
    pub lines: u64,
    /// Bytes of their lines.
    pub bytes: u64,
}
