//! The postings offset table: from a label pair to its postings list.
//!
//! Of a sorted table every 32nd value of each name is kept; what lies between is read when it is asked for. Version 1 does not
//! promise sorted values, so there every value is kept.

use std::ops::Range;

use crate::codec::Reader;
use crate::error::{DecodeError, Result};
use crate::storage::{ReadAt, corrupt_at};

use crate::index::section::{EntryVisitor, Keep, Section, Windowed};

const WHAT: &str = "postings offset table";
/// Marks an entry: two strings follow.
pub const OFFSET_KEY_COUNT: u64 = 2;
const SAMPLE_EVERY: usize = 32;
/// Values of one name are walked in reads of about this size.
const WALK_BYTES: u64 = 4 << 20;
/// What a value costs besides its bytes.
const VISIT_COST: usize = 8;

/// Sees a value, and its list.
type Visit<'a> = dyn FnMut(&str, ListPlace) + Send + 'a;

/// What a walk does with each value: after how many of them others on the thread have their turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visits {
    /// It is copied or counted.
    Listed,
    /// It is held against a regular expression.
    Matched,
}

impl Visits {
    /// Bytes of values that are shown in one go. A slow regular expression takes a millisecond for these, and a list half of one.
    fn turn_bytes(self) -> usize {
        match self {
            Self::Listed => 128 << 10,
            Self::Matched => 16 << 10,
        }
    }
}

/// In which order the values of a name stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueOrder {
    /// Ascending, and the lists likewise: every 32nd is kept.
    Sorted,
    /// Any (Prometheus' version 1): all are kept, and where a list ends is not known without reading its length.
    Any,
}

/// The sampled table.
#[derive(Debug)]
pub struct OffsetTable {
    section: Section,
    names: Vec<Name>,
    all: Option<ListPlace>,
    every_value: bool,
}

/// Where a postings list stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListPlace {
    /// Where it begins in the file.
    pub start: u64,
    /// Where the next list begins; `None` when that is not known without reading the list's length.
    pub end: Option<u64>,
}

#[derive(Debug)]
struct Name {
    name: Box<str>,
    samples: Vec<Sample>,
    /// Where the name's entries end, from the section's start.
    end: u64,
    /// Where the list behind the name's last one begins.
    next_list: u64,
}

#[derive(Debug)]
struct Sample {
    value: Box<str>,
    at: u64,
    list: u64,
}

struct OffsetEntry<'a> {
    name: &'a str,
    value: &'a str,
    list: u64,
}

fn read_entry<'a>(r: &mut Reader<'a>) -> Result<OffsetEntry<'a>, DecodeError> {
    let keys = r.uvarint()?;
    if keys != OFFSET_KEY_COUNT {
        return Err(r.error(format!("{keys} strings instead of {OFFSET_KEY_COUNT}")));
    }
    Ok(OffsetEntry {
        name: r.str()?,
        value: r.str()?,
        list: r.uvarint()?,
    })
}

/// Collects names and samples while the table is scanned.
struct Sampler {
    every: usize,
    names: Vec<Name>,
    all: Option<u64>,
    in_name: usize,
    bytes: u64,
}

impl EntryVisitor for Sampler {
    fn entry(&mut self, r: &mut Reader<'_>, at: u64) -> Result<(), DecodeError> {
        let start = r.clone();
        let entry = read_entry(r)?;
        let out_of_order = |what: &str| Err(start.error(format!("{what:?} is out of order")));
        let is_new = match self.names.last_mut() {
            Some(last) if &*last.name == entry.name => false,
            Some(last) if &*last.name > entry.name => return out_of_order(entry.name),
            Some(last) => {
                last.end = at;
                last.next_list = entry.list;
                true
            }
            None if entry.name.is_empty() => {
                self.all = Some(entry.list);
                return Ok(());
            }
            None => true,
        };
        if is_new {
            self.in_name = 0;
            self.bytes += (entry.name.len() + size_of::<Name>()) as u64;
            self.names.push(Name {
                name: entry.name.into(),
                samples: Vec::new(),
                end: u64::MAX,
                next_list: u64::MAX,
            });
        }
        if self.in_name.is_multiple_of(self.every)
            && let Some(name) = self.names.last_mut()
        {
            if self.every > 1
                && name
                    .samples
                    .last()
                    .is_some_and(|s| &*s.value >= entry.value)
            {
                return out_of_order(entry.value);
            }
            self.bytes += (entry.value.len() + size_of::<Sample>()) as u64;
            name.samples.push(Sample {
                value: entry.value.into(),
                at,
                list: entry.list,
            });
        }
        self.in_name += 1;
        Ok(())
    }

    fn memory_bytes(&self) -> u64 {
        self.bytes
    }
}

impl OffsetTable {
    /// Scans `section`. The lists end at `lists_end`.
    ///
    /// # Errors
    /// `Corrupt`; `LimitExceeded` naming `max_memory_bytes` when the samples take more than `max_bytes`; what [`ReadAt::read`] returns.
    pub async fn open(
        file: &Windowed<'_>,
        mut section: Section,
        lists_end: u64,
        order: ValueOrder,
        keep: Keep,
        max_bytes: u64,
    ) -> Result<Self> {
        let every_value = order == ValueOrder::Any;
        let mut sampler = Sampler {
            every: if every_value { 1 } else { SAMPLE_EVERY },
            names: Vec::new(),
            all: None,
            in_name: 0,
            bytes: 0,
        };
        section
            .scan(file, WHAT, keep, max_bytes, &mut sampler)
            .await?;
        let mut names = sampler.names;
        let all = sampler.all.map(|start| ListPlace {
            start,
            end: match names.first().and_then(|n| n.samples.first()) {
                Some(first) => Some(first.list),
                None => Some(lists_end),
            }
            .filter(|_| !every_value),
        });
        if let Some(last) = names.last_mut() {
            last.end = section.size() - 4;
            last.next_list = lists_end;
        }
        if every_value {
            for name in &mut names {
                name.samples.sort_by(|a, b| a.value.cmp(&b.value));
            }
        }
        Ok(Self {
            section,
            names,
            all,
            every_value,
        })
    }

    /// Memory held in bytes, kept bytes of the section included.
    pub fn memory_bytes(&self) -> u64 {
        let resident = self.section.resident.as_ref().map_or(0, |b| b.len());
        let samples = self.names.iter().flat_map(|n| &n.samples);
        let values: usize = samples.map(|s| s.value.len() + size_of::<Sample>()).sum();
        let names = self.names.iter().map(|n| n.name.len() + size_of::<Name>());
        (resident + values + names.sum::<usize>()) as u64
    }

    /// The label names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|n| &*n.name)
    }

    /// At least the number of values of `name`, and less than 32 more.
    pub fn value_estimate(&self, name: &str) -> u64 {
        let every = if self.every_value { 1 } else { SAMPLE_EVERY };
        self.name(name)
            .map_or(0, |n| (n.samples.len() * every) as u64)
    }

    /// The list of all series.
    pub fn all(&self) -> Option<ListPlace> {
        self.all
    }

    /// The list of one pair: a read of some entries, or none.
    ///
    /// # Errors
    /// `Corrupt`, and what [`ReadAt::read`] returns.
    pub async fn find(
        &self,
        file: &dyn ReadAt,
        name: &str,
        value: &str,
    ) -> Result<Option<ListPlace>> {
        let Some(name) = self.name(name) else {
            return Ok(None);
        };
        let after = name.samples.partition_point(|s| &*s.value <= value);
        let Some(i) = after.checked_sub(1) else {
            return Ok(None);
        };
        if self.every_value {
            let sample = &name.samples[i];
            return Ok((&*sample.value == value).then_some(ListPlace {
                start: sample.list,
                end: None,
            }));
        }
        let mut found = None;
        let mut take = |v: &str, list| {
            if v == value {
                found = Some(list);
            }
        };
        self.walk_samples(file, name, i..i + 1, (Visits::Listed, &mut take))
            .await?;
        Ok(found)
    }

    /// Shows every value of `name`, in order, with its list. Reads the name's part of the table once.
    ///
    /// # Errors
    /// As [`OffsetTable::find`].
    pub async fn walk(
        &self,
        file: &dyn ReadAt,
        name: &str,
        visits: Visits,
        visit: &mut (dyn FnMut(&str, ListPlace) + Send),
    ) -> Result<()> {
        let Some(name) = self.name(name) else {
            return Ok(());
        };
        if self.every_value {
            for s in &name.samples {
                visit(
                    &s.value,
                    ListPlace {
                        start: s.list,
                        end: None,
                    },
                );
            }
            return Ok(());
        }
        let mut i = 0;
        while i < name.samples.len() {
            let limit = name.samples[i].at + WALK_BYTES;
            let n = name.samples[i..].partition_point(|s| s.at < limit);
            self.walk_samples(file, name, i..i + n, (visits, visit))
                .await?;
            i += n;
        }
        Ok(())
    }

    fn name(&self, name: &str) -> Option<&Name> {
        let found = self.names.binary_search_by(|n| (*n.name).cmp(name));
        found.ok().map(|i| &self.names[i])
    }

    async fn walk_samples(
        &self,
        file: &dyn ReadAt,
        name: &Name,
        samples: Range<usize>,
        (visits, visit): (Visits, &mut Visit<'_>),
    ) -> Result<()> {
        let start = name.samples[samples.start].at;
        let next = name.samples.get(samples.end);
        let end = next.map_or(name.end, |s| s.at);
        let next_list = next.map_or(name.next_list, |s| s.list);
        let bytes = self.section.read(file, start..end).await?;
        let mut r = Reader::new(WHAT, &bytes);
        let mut pending: Option<OffsetEntry<'_>> = None;
        let mut visited = 0;
        while !r.is_empty() {
            if visited > visits.turn_bytes() {
                visited = 0;
                tokio::task::yield_now().await;
            }
            let entry = read_entry(&mut r)
                .map_err(|e| corrupt_at(file, self.section.range.start + start, e))?;
            if let Some(p) = pending.take() {
                visited += VISIT_COST + p.value.len();
                visit(
                    p.value,
                    ListPlace {
                        start: p.list,
                        end: Some(entry.list),
                    },
                );
            }
            pending = Some(entry);
        }
        if let Some(p) = pending {
            visit(
                p.value,
                ListPlace {
                    start: p.list,
                    end: Some(next_list),
                },
            );
        }
        Ok(())
    }
}
