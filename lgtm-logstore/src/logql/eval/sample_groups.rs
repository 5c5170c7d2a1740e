//! The series of a range aggregation: found by the labels of an entry without making a label set.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use lgtm_core::model::Labels;

use super::series_fold::SeriesFold;
use crate::logql::ast::RangeOp;
use crate::logql::pipeline::{EntryLabels, StreamLabels};
use crate::logql::plan::SampleGrouping;
use crate::logql::query_error::Result;
use crate::logql::usage::Charge;

/// A series and what it keeps.
#[derive(Debug)]
pub(super) struct SampleSeries {
    pub(super) labels: Labels,
    pub(super) fold: SeriesFold,
}

/// Series by label set; a first table knows them by the bytes of what the pipeline found.
#[derive(Debug)]
pub(super) struct SampleGroups {
    op: RangeOp,
    has_values: bool,
    segments: usize,
    pub(super) series: Vec<SampleSeries>,
    by_labels: HashMap<Labels, u32>,
    by_key: HashTable<(Box<[u8]>, u32)>,
    hashers: DefaultHashBuilder,
    streams: HashMap<Labels, u32>,
    key: Vec<u8>,
    pub(super) charge: Charge,
}

impl SampleGroups {
    pub(super) fn new(op: RangeOp, has_values: bool, segments: usize, charge: Charge) -> Self {
        Self {
            op,
            has_values,
            segments,
            series: Vec::new(),
            by_labels: HashMap::new(),
            by_key: HashTable::new(),
            hashers: DefaultHashBuilder::default(),
            streams: HashMap::new(),
            key: Vec::new(),
            charge,
        }
    }

    /// A number for a stream.
    pub(super) fn stream(&mut self, labels: &Labels) -> Result<u32> {
        if let Some(known) = self.streams.get(labels) {
            return Ok(*known);
        }
        self.charge.grow(labels.size_bytes() as u64 + 64)?;
        let number = self.streams.len() as u32;
        self.streams.insert(labels.clone(), number);
        Ok(number)
    }

    /// The series of an entry. `unwrapped` is the label whose value was taken, which is no label of the series unless grouped by.
    pub(super) fn of_entry(
        &mut self,
        grouping: &SampleGrouping,
        (stream, number): (&StreamLabels, u32),
        labels: &EntryLabels,
        unwrapped: Option<&str>,
    ) -> Result<usize> {
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        let is_hidden = |name: &str| match grouping {
            SampleGrouping::Without(names) => {
                Some(name) == unwrapped || names.iter().any(|n| n == name)
            }
            _ => Some(name) == unwrapped,
        };
        match grouping {
            SampleGrouping::None => {}
            SampleGrouping::By(names) => {
                for name in names {
                    match labels.get(stream, name) {
                        None => key.push(0),
                        Some(value) => {
                            key.push(1);
                            key.extend_from_slice(&(value.len() as u32).to_le_bytes());
                            key.extend_from_slice(value.as_bytes());
                        }
                    }
                }
            }
            SampleGrouping::All | SampleGrouping::Without(_) => {
                key.extend_from_slice(&number.to_le_bytes());
                labels.key(is_hidden, &mut key);
            }
        }
        let hash = self.hashers.hash_one(&key[..]);
        let found = self.by_key.find(hash, |(k, _)| **k == key[..]).map(|k| k.1);
        let place = match found {
            Some(place) => place,
            None => {
                let set = match grouping {
                    SampleGrouping::None => Labels::empty(),
                    SampleGrouping::By(names) => {
                        let pairs = names
                            .iter()
                            .filter_map(|n| Some((n.as_str(), labels.get(stream, n)?)));
                        Labels::from_sorted_keeping_empty(pairs)?
                    }
                    _ => labels.to_labels(stream, |name, _| is_hidden(name)),
                };
                let place = self.of_labels(set)?;
                self.charge.grow(key.len() as u64 + 48)?;
                let hashers = &self.hashers;
                let entry = (Box::from(&key[..]), place);
                self.by_key
                    .insert_unique(hash, entry, |(k, _)| hashers.hash_one(&k[..]));
                place
            }
        };
        self.key = key;
        Ok(place as usize)
    }

    /// The series of a label set.
    fn of_labels(&mut self, labels: Labels) -> Result<u32> {
        if let Some(known) = self.by_labels.get(&labels) {
            return Ok(*known);
        }
        // Asked for before it is made.
        let cells = SeriesFold::cell_bytes(self.op, self.has_values) * self.segments as u64;
        self.charge
            .grow(cells + 2 * labels.size_bytes() as u64 + 128)?;
        let place = self.series.len() as u32;
        self.series.push(SampleSeries {
            labels: labels.clone(),
            fold: SeriesFold::new(self.op, self.has_values, self.segments),
        });
        self.by_labels.insert(labels, place);
        Ok(place)
    }

    /// Takes over what another has.
    pub(super) fn join(&mut self, other: Self) -> Result<()> {
        for series in other.series {
            match self.by_labels.get(&series.labels) {
                Some(place) => self.series[*place as usize].fold.join(self.op, series.fold),
                None => {
                    let place = self.series.len() as u32;
                    self.by_labels.insert(series.labels.clone(), place);
                    self.series.push(series);
                }
            }
        }
        self.charge.join(other.charge);
        Ok(())
    }
}
