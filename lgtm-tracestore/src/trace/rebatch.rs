//! Equal resources joined, and equal scopes within them.

use hashbrown::HashTable;
use xxhash_rust::xxh3::Xxh3;

use crate::trace::{Attribute, ResourceSpans, ScopeSpans, Trace, Value};

impl Trace<'_> {
    /// Sorts the attributes of resources and scopes by key and joins resources with the same attributes, each into the first of them, then their
    /// scopes of the same name, version and attributes. Spans keep their order. Numbers of a tree ([`NestedSets`](super::NestedSets)) are
    /// counted after it.
    pub fn rebatch(&mut self) {
        for resource in &mut self.resources {
            sort(&mut resource.attributes);
        }
        join(&mut self.resources);
        for resource in &mut self.resources {
            for scope in &mut resource.scopes {
                sort(&mut scope.attributes);
            }
            join(&mut resource.scopes);
        }
    }
}

fn sort(attributes: &mut [Attribute<'_>]) {
    // The order of equal keys is kept: the first of them counts.
    attributes.sort_by(|a, b| a.key.cmp(b.key));
}

trait Join {
    fn digest(&self, hash: &mut Xxh3);
    fn is_same(&self, other: &Self) -> bool;
    fn take_in(&mut self, other: &mut Self);
}

impl Join for ResourceSpans<'_> {
    fn digest(&self, hash: &mut Xxh3) {
        digest(&self.attributes, hash);
    }

    fn is_same(&self, other: &Self) -> bool {
        are_same(&self.attributes, &other.attributes)
    }

    fn take_in(&mut self, other: &mut Self) {
        self.scopes.append(&mut other.scopes);
    }
}

impl Join for ScopeSpans<'_> {
    fn digest(&self, hash: &mut Xxh3) {
        hash.update(&(self.name.len() as u64).to_le_bytes());
        hash.update(self.name);
        hash.update(self.version);
        digest(&self.attributes, hash);
    }

    fn is_same(&self, other: &Self) -> bool {
        (self.name, self.version) == (other.name, other.version)
            && are_same(&self.attributes, &other.attributes)
    }

    fn take_in(&mut self, other: &mut Self) {
        self.spans.append(&mut other.spans);
    }
}

fn join<T: Join>(entries: &mut Vec<T>) {
    if entries.len() < 2 {
        return;
    }
    let hash_of = |entry: &T| {
        let mut hash = Xxh3::new();
        entry.digest(&mut hash);
        hash.digest()
    };
    let mut firsts = HashTable::<(u64, u32)>::new();
    let mut kept = 0;
    for n in 0..entries.len() {
        let hash = hash_of(&entries[n]);
        let is_same = |(_, first): &(u64, u32)| entries[*first as usize].is_same(&entries[n]);
        if let Some((_, first)) = firsts.find(hash, is_same) {
            let (before, from) = entries.split_at_mut(n);
            before[*first as usize].take_in(&mut from[0]);
        } else {
            firsts.insert_unique(hash, (hash, kept as u32), |(hash, _)| *hash);
            entries.swap(kept, n);
            kept += 1;
        }
    }
    entries.truncate(kept);
}

fn digest(attributes: &[Attribute<'_>], hash: &mut Xxh3) {
    for attribute in attributes {
        hash.update(&(attribute.key.len() as u64).to_le_bytes());
        hash.update(attribute.key);
        match attribute.value {
            Value::Empty => hash.update(&[0]),
            Value::Bool(v) => hash.update(&[1, v.into()]),
            Value::Int(v) => hash.update(&v.to_le_bytes()),
            Value::Double(v) => hash.update(&v.to_bits().to_le_bytes()),
            Value::Text(bytes) | Value::List(bytes) | Value::Map(bytes) | Value::Bytes(bytes) => {
                hash.update(bytes);
            }
        }
    }
}

fn are_same(a: &[Attribute<'_>], b: &[Attribute<'_>]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            a.key == b.key
                && match (a.value, b.value) {
                    // NaN is itself here, and 0 not -0.
                    (Value::Double(a), Value::Double(b)) => a.to_bits() == b.to_bits(),
                    (a, b) => a == b,
                }
        })
}
