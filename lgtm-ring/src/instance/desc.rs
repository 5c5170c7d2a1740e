//! The map of instances.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::instance::{Instance, InstanceState};
use crate::token::Token;

/// All instances of one ring, by id. Cloning copies pointers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RingDesc {
    pub(super) instances: BTreeMap<String, Arc<Instance>>,
}

impl RingDesc {
    /// No instances.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts an instance in, replacing the one of its id.
    pub fn insert(&mut self, instance: Instance) {
        let id = instance.id.clone();
        self.instances.insert(id, Arc::new(instance));
    }

    /// Takes an instance out. In a merging back end the change of a value becomes a tombstone.
    pub fn remove(&mut self, id: &str) -> Option<Arc<Instance>> {
        self.instances.remove(id)
    }

    /// An instance by id.
    pub fn get(&self, id: &str) -> Option<&Arc<Instance>> {
        self.instances.get(id)
    }

    /// An instance to be changed in place.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Instance> {
        self.instances.get_mut(id).map(Arc::make_mut)
    }

    /// All instances, by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Instance>> {
        self.instances.values()
    }

    /// Instances, tombstones too.
    pub fn len(&self) -> usize {
        self.instances.len()
    }

    /// Whether there is no instance.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    /// Every token that somebody holds.
    pub fn taken_tokens(&self) -> HashSet<Token> {
        let tokens = self.iter().flat_map(|i| i.tokens.iter().copied());
        tokens.collect()
    }

    /// Keeps the instances that `keep` approves of.
    pub fn retain(&mut self, mut keep: impl FnMut(&Instance) -> bool) {
        self.instances.retain(|_, instance| keep(instance));
    }

    /// The records of the instances that did not leave.
    pub fn without_tombstones(&self) -> Self {
        let mut desc = self.clone();
        desc.retain(|i| i.state != InstanceState::Left);
        desc
    }
}

impl FromIterator<Instance> for RingDesc {
    fn from_iter<I: IntoIterator<Item = Instance>>(instances: I) -> Self {
        let mut desc = Self::new();
        instances.into_iter().for_each(|i| desc.insert(i));
        desc
    }
}
