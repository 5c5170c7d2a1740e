//! Least and greatest value of a page, and of a chunk.

use parquet::data_type::ByteArray;
use parquet::file::statistics::{Statistics, ValueStatistics};

use crate::schema::LeafKind;
use crate::schema::text_table::TextTable;

/// Bytes of a text that the footer has of a bound.
const BOUND_BYTES: usize = 64;

/// Least and greatest value.
#[derive(Debug, Clone)]
pub(crate) struct ValueRange {
    kind: LeafKind,
    ints: Option<(i64, i64)>,
    doubles: Option<(f64, f64)>,
    texts: Option<TextRange>,
    /// Floats that are no numbers.
    nans: u64,
}

/// Least and greatest text, with what tells most others from them.
#[derive(Debug, Clone)]
struct TextRange {
    min: Vec<u8>,
    max: Vec<u8>,
    min_begin: u64,
    max_begin: u64,
}

/// The first eight bytes, such that numbers are in the order of texts where they differ.
#[inline]
fn begin_of(text: &[u8]) -> u64 {
    match text.first_chunk::<8>() {
        Some(first) => u64::from_be_bytes(*first),
        None => {
            let mut first = [0; 8];
            first[..text.len()].copy_from_slice(text);
            u64::from_be_bytes(first)
        }
    }
}

impl ValueRange {
    pub(crate) fn new(kind: LeafKind) -> Self {
        Self {
            kind,
            ints: None,
            doubles: None,
            texts: None,
            nans: 0,
        }
    }

    /// Another of the same kind.
    pub(crate) fn empty(&self) -> Self {
        Self::new(self.kind)
    }

    /// An integer in an order of its own: those without a sign behind each other.
    fn ordered(&self, v: i64) -> i64 {
        match self.kind {
            LeafKind::U64 => v ^ i64::MIN,
            LeafKind::U32 => i64::from(v as u32),
            _ => v,
        }
    }

    #[inline]
    pub(crate) fn add_int(&mut self, v: i64) {
        let v = self.ordered(v);
        let (min, max) = self.ints.unwrap_or((v, v));
        self.ints = Some((min.min(v), max.max(v)));
    }

    pub(crate) fn add_double(&mut self, v: f64) {
        if v.is_nan() {
            self.nans += 1;
            return;
        }
        let (min, max) = self.doubles.unwrap_or((v, v));
        self.doubles = Some((min.min(v), max.max(v)));
    }

    pub(crate) fn add_text(&mut self, text: &[u8]) {
        let begin = begin_of(text);
        let Some(range) = &mut self.texts else {
            self.texts = Some(TextRange {
                min: text.to_vec(),
                max: text.to_vec(),
                min_begin: begin,
                max_begin: begin,
            });
            return;
        };
        if range.min_begin < begin && begin < range.max_begin {
            return;
        }
        if text < range.min.as_slice() {
            range.min.clear();
            range.min.extend_from_slice(text);
            range.min_begin = begin;
        } else if text > range.max.as_slice() {
            range.max.clear();
            range.max.extend_from_slice(text);
            range.max_begin = begin;
        }
    }

    /// The texts of these numbers, each looked at once.
    pub(crate) fn add_codes(&mut self, table: &TextTable, codes: &[u32]) {
        let mut seen = vec![0u64; table.len().div_ceil(64)];
        for code in codes {
            let word = &mut seen[*code as usize / 64];
            let bit = 1 << (code % 64);
            if *word & bit == 0 {
                *word |= bit;
                self.add_text(table.get(*code).unwrap_or_default());
            }
        }
    }

    pub(crate) fn widen(&mut self, other: &Self) {
        if let Some((min, max)) = other.ints {
            let (a, b) = self.ints.unwrap_or((min, max));
            self.ints = Some((a.min(min), b.max(max)));
        }
        if let Some((min, max)) = other.doubles {
            self.add_double(min);
            self.add_double(max);
        }
        if let Some(texts) = &other.texts {
            self.add_text(&texts.min);
            self.add_text(&texts.max);
        }
        self.nans += other.nans;
    }

    /// As Parquet has them.
    pub(crate) fn statistics(&self, nulls: u64, with_bounds: bool) -> Statistics {
        let nulls = Some(nulls);
        let wide = |v: i64| match self.kind {
            LeafKind::U64 => v ^ i64::MIN,
            _ => v,
        };
        let is_signed = !matches!(self.kind, LeafKind::U32 | LeafKind::U64);
        let ints = self.ints.map(|(min, max)| (wide(min), wide(max)));
        match self.kind {
            LeafKind::U64 | LeafKind::I64 => {
                ValueStatistics::new(ints.map(|i| i.0), ints.map(|i| i.1), None, nulls, false)
                    .with_backwards_compatible_min_max(is_signed)
                    .into()
            }
            LeafKind::U32 | LeafKind::I32 => {
                let ints = ints.map(|(min, max)| (min as i32, max as i32));
                ValueStatistics::new(ints.map(|i| i.0), ints.map(|i| i.1), None, nulls, false)
                    .with_backwards_compatible_min_max(is_signed)
                    .into()
            }
            LeafKind::Bool => {
                let bools = ints.map(|(min, max)| (min != 0, max != 0));
                ValueStatistics::new(bools.map(|i| i.0), bools.map(|i| i.1), None, nulls, false)
                    .into()
            }
            LeafKind::Double => {
                // Readers may take one zero for less than the other.
                let zero = |v: f64, zero: f64| if v == 0.0 { zero } else { v };
                let bounds = self
                    .doubles
                    .map(|(min, max)| (zero(min, -0.0), zero(max, 0.0)));
                ValueStatistics::new(bounds.map(|b| b.0), bounds.map(|b| b.1), None, nulls, false)
                    .with_nan_count(Some(self.nans))
                    .into()
            }
            LeafKind::Bytes | LeafKind::Text => {
                let bounds = self.texts.as_ref().filter(|_| with_bounds);
                let cut = |text: &[u8]| ByteArray::from(text.to_vec());
                let min = bounds.map(|b| &b.min[..b.min.len().min(BOUND_BYTES)]);
                let max = bounds.map(|b| crate::schema::page_facts::above(&b.max, BOUND_BYTES));
                let is_exact = |cut: usize, all: Option<usize>| all.is_none_or(|all| cut == all);
                let lens = bounds.map(|b| (b.min.len(), b.max.len()));
                let min_is_exact = is_exact(min.map_or(0, <[u8]>::len), lens.map(|l| l.0));
                let max_is_exact = is_exact(max.as_ref().map_or(0, Vec::len), lens.map(|l| l.1));
                ValueStatistics::new(min.map(cut), max.as_deref().map(cut), None, nulls, false)
                    .with_min_is_exact(min_is_exact)
                    .with_max_is_exact(max_is_exact)
                    .into()
            }
        }
    }
}
