//! The side file, read.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use lgtm_core::codec::ribbon::Ribbon;
use lgtm_core::codec::{Reader, crc32c};
use lgtm_core::error::DecodeError;
use lgtm_core::re2::Re2;

use super::builder::{INTRINSIC_SCOPE, INTRINSICS, MARK, SkipOrigin, scope_number};
use super::groups::GroupSet;
use super::value::SkipValue;
use crate::select::{
    AttributeScope, CompareOp, Condition, Field, Intrinsic, Literal, Patterns, SpanFilter, Test,
};

const WHAT: &str = "trace side file";
/// Most row groups that a file may speak of, and bytes of its table.
const MAX_GROUPS: u64 = 1 << 20;
const MAX_TABLE_BYTES: usize = 256 << 20;

/// What a side file says.
#[derive(Debug)]
pub struct SkipIndex {
    origin: SkipOrigin,
    groups: usize,
    kinds: Vec<(u8, u8)>,
    has_all_names: bool,
    names: BTreeMap<(u8, Vec<u8>), Name>,
    file: Bytes,
}

#[derive(Debug)]
struct Name {
    groups: GroupSet,
    values: NameValues,
}

#[derive(Debug)]
enum NameValues {
    Unknown,
    /// Sorted.
    Few(Vec<(SkipValue, GroupSet)>),
    /// Where in the file the filters of row groups lie.
    Many(BTreeMap<usize, Range<usize>>),
}

impl SkipIndex {
    /// Reads a file.
    ///
    /// # Errors
    /// For bytes that are none, or were changed.
    pub fn decode(file: Bytes) -> Result<Self, DecodeError> {
        let bad = |reason: String| DecodeError::new(WHAT, 0, reason);
        let Some((body, crc)) = file.split_last_chunk::<4>() else {
            return Err(bad("shorter than its checksum".into()));
        };
        if crc32c(body) != u32::from_le_bytes(*crc) {
            return Err(bad("the checksum is wrong".into()));
        }
        let mut r = Reader::new(WHAT, body);
        if r.take(MARK.len())? != MARK {
            return Err(bad("another mark, or another version".into()));
        }
        let table_len = r.u32_le()? as usize;
        let packed_len = r.u32_le()? as usize;
        if table_len > MAX_TABLE_BYTES || table_len > packed_len.saturating_mul(4096) {
            return Err(bad(format!("a table of {table_len} bytes in {packed_len}")));
        }
        let table = zstd::bulk::decompress(r.take(packed_len)?, table_len);
        let table = table.map_err(|e| bad(e.to_string()))?;
        if table.len() != table_len {
            return Err(bad("a table of another length".into()));
        }
        let filters = MARK.len() + 8 + packed_len..body.len();
        let mut r = Reader::new(WHAT, &table);
        let origin = SkipOrigin {
            size_bytes: r.uvarint()?,
            footer_size_bytes: u32::try_from(r.uvarint()?).unwrap_or(u32::MAX),
            traces: r.uvarint()?,
        };
        let groups = r.uvarint()?;
        if groups > MAX_GROUPS || groups * 2 > r.remaining() as u64 {
            return Err(r.error(format!("{groups} row groups")));
        }
        let groups = groups as usize;
        let kinds = r.take(groups * 2)?.as_chunks::<2>().0;
        let kinds = kinds.iter().map(|[kinds, statuses]| (*kinds, *statuses));
        let kinds = kinds.collect();
        let has_all_names = r.u8()? != 0;
        let mut names = BTreeMap::new();
        let mut at = filters.start;
        for _ in 0..r.uvarint()? {
            let scope = r.u8()?;
            let key = r.bytes()?.to_vec();
            let name = name(&mut r, groups, &mut at, filters.end)?;
            names.insert((scope, key), name);
        }
        Ok(Self {
            origin,
            groups,
            kinds,
            has_all_names,
            names,
            file: file.clone(),
        })
    }

    /// What it was made from.
    pub fn origin(&self) -> SkipOrigin {
        self.origin
    }

    /// Bytes in memory, about.
    pub fn size_bytes(&self) -> usize {
        let values = self.names.values().map(|name| match &name.values {
            NameValues::Few(values) => values.iter().map(|(v, _)| v.size_bytes() + 72).sum(),
            NameValues::Many(filters) => filters.len() * 64,
            NameValues::Unknown => 0,
        });
        self.file.len() + self.names.len() * 160 + values.sum::<usize>()
    }

    /// The row groups that may have spans that pass a filter; the others have none for certain.
    pub fn groups_of(&self, filter: &SpanFilter) -> GroupSet {
        self.groups_by(filter, &Patterns::of_filter(filter))
    }

    /// The same with the regular expressions of the request that the filter is of.
    pub(crate) fn groups_by(&self, filter: &SpanFilter, patterns: &Patterns) -> GroupSet {
        lgtm_core::exec::with_room(|| match filter {
            SpanFilter::Everything => GroupSet::all(self.groups),
            SpanFilter::Nothing => GroupSet::default(),
            SpanFilter::Test(condition) => self.groups_of_test(condition, patterns),
            SpanFilter::All(all) => {
                let mut out = GroupSet::all(self.groups);
                all.iter()
                    .for_each(|f| out.retain(&self.groups_by(f, patterns)));
                out
            }
            SpanFilter::Any(any) => {
                let mut out = GroupSet::default();
                any.iter()
                    .for_each(|f| out.add(&self.groups_by(f, patterns)));
                out
            }
        })
    }

    fn groups_of_test(
        &self,
        Condition { field, test }: &Condition,
        patterns: &Patterns,
    ) -> GroupSet {
        let everywhere = || GroupSet::all(self.groups);
        if let Field::Intrinsic(intrinsic @ (Intrinsic::Kind | Intrinsic::Status)) = field {
            return self.groups_of_number(*intrinsic, test);
        }
        let Some(key) = key_of(field) else {
            return everywhere();
        };
        let Some(name) = self.names.get(&key) else {
            return if self.has_all_names {
                GroupSet::default()
            } else {
                everywhere()
            };
        };
        match (&name.values, test) {
            (NameValues::Few(values), test) => {
                let test = ValueTest {
                    test,
                    patterns: patterns.of_test(test),
                };
                let mut out = GroupSet::default();
                for (value, groups) in values {
                    if test.passes(value) {
                        out.add(groups);
                    }
                }
                out
            }
            (NameValues::Many(filters), Test::Compare(CompareOp::Equal, literal)) => {
                self.groups_with(name, filters, std::slice::from_ref(literal))
            }
            (NameValues::Many(filters), Test::In(literals)) => {
                self.groups_with(name, filters, literals)
            }
            _ => name.groups.clone(),
        }
    }

    /// The row groups of a name whose filter lets one of these through.
    fn groups_with(
        &self,
        name: &Name,
        filters: &BTreeMap<usize, Range<usize>>,
        literals: &[Literal],
    ) -> GroupSet {
        let hashes: Option<Vec<u64>> = literals.iter().map(SkipValue::hash_of).collect();
        let Some(hashes) = hashes else {
            return name.groups.clone();
        };
        let mut out = GroupSet::default();
        for group in name.groups.iter() {
            let bytes = filters
                .get(&group)
                .and_then(|range| self.file.get(range.clone()));
            let filter = bytes.and_then(|b| Ribbon::decode(&mut Reader::new(WHAT, b)).ok());
            if filter.is_none_or(|f| hashes.iter().any(|hash| f.may_hold(*hash))) {
                out.insert(group);
            }
        }
        out
    }

    fn groups_of_number(&self, intrinsic: Intrinsic, test: &Test) -> GroupSet {
        let mut wanted = 0u8;
        let stands = |n: i32, op: CompareOp, literal: &Literal| match literal {
            Literal::Kind(kind) => op.holds(n, *kind as i32),
            Literal::Status(code) => op.holds(n, *code as i32),
            _ => true,
        };
        for n in 0..8 {
            let passes = match test {
                Test::Compare(op, literal) => stands(n, *op, literal),
                Test::In(all) => all.iter().any(|l| stands(n, CompareOp::Equal, l)),
                Test::Exists | Test::Matches(_) => true,
            };
            wanted |= u8::from(passes) << n;
        }
        let mut out = GroupSet::default();
        for (group, (kinds, statuses)) in self.kinds.iter().enumerate() {
            let has = if intrinsic == Intrinsic::Kind {
                kinds
            } else {
                statuses
            };
            if has & wanted != 0 {
                out.insert(group);
            }
        }
        out
    }

    /// Names of attributes by scope; `None` when the file does not have all of them.
    pub fn names(&self) -> Option<impl Iterator<Item = (AttributeScope, &[u8])>> {
        let names = self.names.keys().filter_map(|(scope, key)| {
            let scope = AttributeScope::ALL.get(usize::from(*scope))?;
            Some((*scope, key.as_slice()))
        });
        self.has_all_names.then_some(names)
    }

    /// The kinds or status codes that spans have; `None` when some have others than are known.
    pub(super) fn numbers(&self, intrinsic: Intrinsic) -> Option<Vec<i64>> {
        let of_group = |(kinds, statuses): &(u8, u8)| {
            if intrinsic == Intrinsic::Kind {
                *kinds
            } else {
                *statuses
            }
        };
        let all = self.kinds.iter().map(of_group).fold(0, |a, b| a | b);
        let numbers = (0..8).filter(|n| all >> n & 1 == 1).map(i64::from);
        (all < u8::MAX).then(|| numbers.collect())
    }

    /// The values of a field, sorted; `None` when the file does not have all of them.
    pub fn values(&self, field: &Field) -> Option<impl Iterator<Item = &SkipValue>> {
        let name = self.names.get(&key_of(field)?);
        let values = match name.map(|name| &name.values) {
            Some(NameValues::Few(values)) => values.as_slice(),
            None if self.has_all_names => &[],
            _ => return None,
        };
        Some(values.iter().map(|(value, _)| value))
    }
}

fn name(
    r: &mut Reader<'_>,
    groups: usize,
    at: &mut usize,
    end: usize,
) -> Result<Name, DecodeError> {
    let of = GroupSet::decode(r, groups)?;
    let values = match r.u8()? {
        0 => NameValues::Unknown,
        1 => {
            let mut values = Vec::new();
            for _ in 0..r.uvarint()? {
                let value = SkipValue::decode(r)?;
                values.push((value, GroupSet::decode(r, groups)?));
            }
            NameValues::Few(values)
        }
        2 => {
            let mut filters = BTreeMap::new();
            for _ in 0..r.uvarint()? {
                let group = r.uvarint()? as usize;
                let len = r.uvarint()?;
                if group >= groups || len > (end - *at) as u64 {
                    return Err(r.error("a filter that lies outside of the file"));
                }
                filters.insert(group, *at..*at + len as usize);
                *at += len as usize;
            }
            NameValues::Many(filters)
        }
        form => return Err(r.error(format!("values of form {form}"))),
    };
    Ok(Name { groups: of, values })
}

/// What a field stands under.
fn key_of(field: &Field) -> Option<(u8, Vec<u8>)> {
    match field {
        Field::Attribute(scope, name) => Some((scope_number(*scope)?, name.clone().into_bytes())),
        Field::Intrinsic(intrinsic) => {
            let n = INTRINSICS.iter().position(|i| i == intrinsic)?;
            Some((INTRINSIC_SCOPE, vec![n as u8]))
        }
    }
}

/// A test, and its expressions.
struct ValueTest<'t> {
    test: &'t Test,
    patterns: Vec<&'t Re2>,
}

impl ValueTest<'_> {
    fn passes(&self, value: &SkipValue) -> bool {
        match self.test {
            Test::Exists => true,
            Test::Compare(op, literal) => stands(value, *op, literal),
            Test::In(all) => all.iter().any(|l| stands(value, CompareOp::Equal, l)),
            Test::Matches(_) => match value {
                SkipValue::Text(text) => {
                    let text = String::from_utf8_lossy(text);
                    self.patterns.iter().any(|p| p.is_match(&text))
                }
                _ => false,
            },
        }
    }
}

fn stands(value: &SkipValue, op: CompareOp, literal: &Literal) -> bool {
    match (value, literal) {
        (SkipValue::Text(text), Literal::Text(literal)) => {
            op.holds(text.as_slice(), literal.as_bytes())
        }
        (SkipValue::Int(v), Literal::Int(l) | Literal::Duration(l)) => op.holds(*v, *l),
        (SkipValue::Int(v), Literal::Float(l)) => op.holds(*v as f64, *l),
        (SkipValue::Float(bits), Literal::Int(l) | Literal::Duration(l)) => {
            op.holds(f64::from_bits(*bits), *l as f64)
        }
        (SkipValue::Float(bits), Literal::Float(l)) => op.holds(f64::from_bits(*bits), *l),
        (SkipValue::Bool(v), Literal::Bool(l)) => op.holds(*v, *l),
        _ => false,
    }
}
