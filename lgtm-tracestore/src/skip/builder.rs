//! The side file while its block is written.

use hashbrown::{HashMap, HashSet};
use lgtm_core::codec::ribbon;
use lgtm_core::codec::{crc32c, put_bytes, put_uvarint};
use lgtm_core::{Error, Result};

use super::groups::GroupSet;
use super::value::SkipValue;
use crate::select::{AttributeScope, Intrinsic, alike};
use crate::trace::{Attribute, Trace, Value};

/// Marks the file and its version.
pub(super) const MARK: &[u8; 8] = b"LGTMTSK1";
/// Values of a name that are kept, and their bytes; of names with more there are hashes.
const FEW_VALUES: usize = 1000;
const FEW_BYTES: usize = 64 << 10;
/// Names that are kept; with more the file says nothing of names that it does not have.
const MAX_NAMES: usize = 4096;
const MAX_COLUMNS: usize = ribbon::MAX_COLUMNS;

/// What a side file was made from. One that was made from something else is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SkipOrigin {
    /// Bytes of the block's data.
    pub size_bytes: u64,
    /// Bytes of its footer.
    pub footer_size_bytes: u32,
    /// Traces in it.
    pub traces: u64,
}

/// Intrinsics of which the values are kept, by their number in the file.
pub(super) const INTRINSICS: [Intrinsic; 5] = [
    Intrinsic::Name,
    Intrinsic::RootName,
    Intrinsic::RootService,
    Intrinsic::EventName,
    Intrinsic::ScopeName,
];

/// The number of the scope of intrinsics; those before are attributes'.
pub(super) const INTRINSIC_SCOPE: u8 = AttributeScope::ALL.len() as u8;

/// The number of a scope of attributes.
pub(super) fn scope_number(scope: AttributeScope) -> Option<u8> {
    let at = AttributeScope::ALL.iter().position(|s| *s == scope)?;
    Some(at as u8)
}

/// Gathers what the traces of a block have.
#[derive(Debug)]
pub struct SkipBuilder {
    names: Vec<NameBuilder>,
    by_key: HashMap<(u8, Vec<u8>), usize>,
    /// Of each scope the names that the attributes of the last owner had, in order: the next ones are mostly the same.
    last: [Vec<usize>; 6],
    group: usize,
    /// Kinds and status codes of each row group, a bit each.
    kinds: Vec<(u8, u8)>,
    has_all_names: bool,
}

#[derive(Debug)]
struct NameBuilder {
    scope: u8,
    key: Vec<u8>,
    groups: GroupSet,
    values: NameValues,
    /// The last value of the row group: the next one is often the same.
    last: Option<SkipValue>,
}

#[derive(Debug)]
enum NameValues {
    Few {
        values: HashMap<SkipValue, GroupSet>,
        bytes: usize,
    },
    /// Hashes of the row group under way, and the filters of those before.
    Many {
        hashes: HashSet<u64>,
        filters: Vec<(usize, Vec<u8>)>,
    },
}

impl Default for SkipBuilder {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            by_key: HashMap::new(),
            last: Default::default(),
            group: 0,
            kinds: Vec::new(),
            has_all_names: true,
        }
    }
}

impl SkipBuilder {
    /// Adds a trace of the row group under way.
    pub fn add(&mut self, trace: &Trace<'_>) {
        let summary = crate::trace::TraceSummary::of(trace);
        self.text(INTRINSIC_SCOPE, 1, summary.root_span_name);
        self.text(INTRINSIC_SCOPE, 2, summary.root_service_name);
        let (mut kinds, mut statuses) = (0u8, 0u8);
        for resource in &trace.resources {
            self.attributes(0, &resource.attributes);
            if !resource.attributes.iter().any(|a| a.key == b"service.name") {
                self.one(0, usize::MAX, b"service.name", &Value::Text(b""));
            }
            for scope in &resource.scopes {
                self.attributes(4, &scope.attributes);
                self.text(INTRINSIC_SCOPE, 4, scope.name);
                for span in &scope.spans {
                    self.attributes(1, &span.attributes);
                    self.text(INTRINSIC_SCOPE, 0, span.name);
                    kinds |= bit_of(span.kind);
                    statuses |= bit_of(span.status_code);
                    for event in &span.events {
                        self.attributes(2, &event.attributes);
                        self.text(INTRINSIC_SCOPE, 3, event.name);
                    }
                    for link in &span.links {
                        self.attributes(3, &link.attributes);
                    }
                }
            }
        }
        if self.kinds.len() <= self.group {
            self.kinds.resize(self.group + 1, (0, 0));
        }
        let of_group = &mut self.kinds[self.group];
        of_group.0 |= kinds;
        of_group.1 |= statuses;
    }

    fn text(&mut self, scope: u8, intrinsic: u8, text: &[u8]) {
        self.one(
            scope,
            usize::from(intrinsic),
            &[intrinsic],
            &Value::Text(text),
        );
    }

    fn attributes(&mut self, scope: u8, attributes: &[Attribute<'_>]) {
        for (place, attribute) in attributes.iter().enumerate() {
            let is_service = scope == 0 && attribute.key == b"service.name";
            match attribute.value {
                // The service is always a text.
                value if is_service && value.as_text().is_none() => {
                    self.one(scope, place, attribute.key, &Value::Text(b""));
                }
                value => self.one(scope, place, attribute.key, &value),
            }
        }
    }

    fn one(&mut self, scope: u8, place: usize, key: &[u8], value: &Value<'_>) {
        // Blocks forget attributes without a value.
        if *value == Value::Empty {
            return;
        }
        let Some(n) = self.name(scope, place, key) else {
            return;
        };
        let group = self.group;
        let name = &mut self.names[n];
        name.groups.insert(group);
        match value {
            // Queries see arrays of one type, by their elements.
            Value::List(list) => {
                for value in alike(list).unwrap_or_default() {
                    name.add(group, &value);
                }
            }
            value => name.add(group, value),
        }
    }

    /// The number of a name; `None` beyond those that are kept.
    fn name(&mut self, scope: u8, place: usize, key: &[u8]) -> Option<usize> {
        let last = &mut self.last[usize::from(scope)];
        if let Some(n) = last.get(place)
            && let Some(name) = self.names.get(*n)
            && name.key == key
        {
            return Some(*n);
        }
        let n = match self.by_key.get(&(scope, key.to_vec())) {
            Some(n) => *n,
            None if self.names.len() >= MAX_NAMES => {
                self.has_all_names = false;
                return None;
            }
            None => {
                let n = self.names.len();
                self.by_key.insert((scope, key.to_vec()), n);
                self.names.push(NameBuilder {
                    scope,
                    key: key.to_vec(),
                    groups: GroupSet::default(),
                    values: NameValues::Few {
                        values: HashMap::new(),
                        bytes: 0,
                    },
                    last: None,
                });
                n
            }
        };
        if place < 64 {
            if last.len() <= place {
                last.resize(place + 1, usize::MAX);
            }
            last[place] = n;
        }
        Some(n)
    }

    /// Ends a row group, whose filters may take so many bytes.
    pub fn end_group(&mut self, max_bytes: usize) {
        let group = self.group;
        let mut many: Vec<&mut NameBuilder> =
            self.names.iter_mut().filter(|n| n.hashes() > 0).collect();
        // The small ones first, so that a name that is different in every span costs the others nothing.
        many.sort_by_key(|n| n.hashes());
        let mut left = max_bytes;
        let mut names = many.len();
        for name in many {
            let keys = name.hashes();
            let rows = ribbon::rows_for(keys) / 8 + 16;
            let columns = (left / names / rows).min(MAX_COLUMNS);
            names -= 1;
            left -= name.end_group(group, columns).min(left);
        }
        for name in &mut self.names {
            name.last = None;
        }
        self.group += 1;
    }

    /// The file; `None` where it would take more bytes than it may even without what can be left out.
    ///
    /// # Errors
    /// `Internal` where compression fails.
    pub fn finish(mut self, origin: SkipOrigin, max_bytes: usize) -> Result<Option<Vec<u8>>> {
        self.names
            .sort_by(|a, b| (a.scope, &a.key).cmp(&(b.scope, &b.key)));
        let mut with_values = FEW_BYTES;
        loop {
            let file = self.encode(origin, with_values)?;
            if file.len() <= max_bytes {
                return Ok(Some(file));
            }
            if with_values == 0 {
                return Ok(None);
            }
            // Lists of values go first, the longest of them before the others.
            with_values /= 4;
        }
    }

    fn encode(&self, origin: SkipOrigin, max_values_bytes: usize) -> Result<Vec<u8>> {
        let (mut table, mut filters) = (Vec::new(), Vec::new());
        put_uvarint(&mut table, origin.size_bytes);
        put_uvarint(&mut table, origin.footer_size_bytes.into());
        put_uvarint(&mut table, origin.traces);
        put_uvarint(&mut table, self.group as u64);
        for group in 0..self.group {
            let (kinds, statuses) = self.kinds.get(group).copied().unwrap_or((u8::MAX, u8::MAX));
            table.extend_from_slice(&[kinds, statuses]);
        }
        table.push(self.has_all_names.into());
        put_uvarint(&mut table, self.names.len() as u64);
        for name in &self.names {
            table.push(name.scope);
            put_bytes(&mut table, &name.key);
            name.groups.encode(&mut table);
            match &name.values {
                NameValues::Few { values, bytes } if *bytes <= max_values_bytes => {
                    table.push(1);
                    let mut sorted: Vec<_> = values.iter().collect();
                    sorted.sort_by(|a, b| a.0.cmp(b.0));
                    put_uvarint(&mut table, sorted.len() as u64);
                    for (value, groups) in sorted {
                        value.encode(&mut table);
                        groups.encode(&mut table);
                    }
                }
                NameValues::Many { filters: own, .. } => {
                    table.push(2);
                    put_uvarint(&mut table, own.len() as u64);
                    for (group, filter) in own {
                        put_uvarint(&mut table, *group as u64);
                        put_uvarint(&mut table, filter.len() as u64);
                        filters.extend_from_slice(filter);
                    }
                }
                NameValues::Few { .. } => table.push(0),
            }
        }
        let packed = zstd::bulk::compress(&table, 3)
            .map_err(|e| Error::Internal(format!("compression of a side file: {e}")))?;
        let too_long = |_| Error::LimitExceeded("a side file of more than 4 GiB".into());
        let mut out = MARK.to_vec();
        out.extend_from_slice(&u32::try_from(table.len()).map_err(too_long)?.to_le_bytes());
        out.extend_from_slice(&u32::try_from(packed.len()).map_err(too_long)?.to_le_bytes());
        out.extend_from_slice(&packed);
        out.extend_from_slice(&filters);
        let crc = crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        Ok(out)
    }
}

/// The bit of a kind or code; all where it has none.
fn bit_of(number: i32) -> u8 {
    match u32::try_from(number) {
        Ok(n @ 0..8) => 1 << n,
        _ => u8::MAX,
    }
}

impl NameBuilder {
    fn add(&mut self, group: usize, value: &Value<'_>) {
        let is_last = match (&self.last, value) {
            (Some(SkipValue::Text(last)), Value::Text(text)) => last == text,
            (Some(SkipValue::Int(last)), Value::Int(v)) => last == v,
            _ => false,
        };
        if is_last {
            return;
        }
        if let (NameValues::Many { hashes, .. }, Value::Text(text)) = (&mut self.values, value) {
            // No text is made of what is different in each span.
            hashes.insert(xxhash_rust::xxh3::xxh3_64_with_seed(text, 1));
            return;
        }
        let value = match value {
            Value::Text(text) => SkipValue::Text(text.to_vec()),
            Value::Int(v) => SkipValue::Int(*v),
            Value::Double(v) => SkipValue::Float(v.to_bits()),
            Value::Bool(v) => SkipValue::Bool(*v),
            // What no query sees.
            Value::Empty | Value::List(_) | Value::Map(_) | Value::Bytes(_) => return,
        };
        match &mut self.values {
            NameValues::Many { hashes, .. } => {
                hashes.insert(value.hash());
            }
            NameValues::Few { values, bytes } => {
                if let Some(groups) = values.get_mut(&value) {
                    groups.insert(group);
                } else {
                    *bytes += value.size_bytes();
                    let mut groups = GroupSet::default();
                    groups.insert(group);
                    values.insert(value.clone(), groups);
                    if values.len() > FEW_VALUES || *bytes > FEW_BYTES {
                        self.become_many(group);
                    }
                }
            }
        }
        self.last = Some(value);
    }

    /// Values become hashes: those of row groups before in filters.
    fn become_many(&mut self, group: usize) {
        let NameValues::Few { values, .. } = &mut self.values else {
            return;
        };
        let mut by_group: HashMap<usize, HashSet<u64>> = HashMap::new();
        for (value, groups) in values.drain() {
            for of in groups.iter() {
                by_group.entry(of).or_default().insert(value.hash());
            }
        }
        let hashes = by_group.remove(&group).unwrap_or_default();
        let mut filters: Vec<(usize, Vec<u8>)> = Vec::new();
        for (of, hashes) in by_group {
            filters.push((of, filter_of(&hashes, MAX_COLUMNS)));
        }
        filters.sort();
        self.values = NameValues::Many { hashes, filters };
    }

    fn hashes(&self) -> usize {
        match &self.values {
            NameValues::Many { hashes, .. } => hashes.len(),
            NameValues::Few { .. } => 0,
        }
    }

    /// Makes the filter of a row group, without columns none; its bytes.
    fn end_group(&mut self, group: usize, columns: usize) -> usize {
        let NameValues::Many { hashes, filters } = &mut self.values else {
            return 0;
        };
        let mut bytes = 0;
        if columns > 0 {
            let filter = filter_of(hashes, columns);
            bytes = filter.len();
            filters.push((group, filter));
        }
        hashes.clear();
        bytes
    }
}

fn filter_of(hashes: &HashSet<u64>, columns: usize) -> Vec<u8> {
    let mut keys: Vec<u64> = hashes.iter().copied().collect();
    // The same file of the same block.
    keys.sort_unstable();
    let mut out = Vec::new();
    ribbon::encode(&keys, columns, &mut out);
    out
}
