//! Which names there are, and which of them a power loss leaves.

use std::collections::BTreeMap;

use crate::testing::Dice;

/// What bears a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Folder,
    /// By its number, since open files outlive their names.
    File(u64),
}

/// Names that come and go together: a rename takes one and gives another, and no crash does half of it.
type NameChange = Vec<(String, Option<Node>)>;

/// The names of a disk, twice: as a running process sees them, and as they are known to survive.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    seen: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
    unsynced: Vec<NameChange>,
}

/// `wal/00000001` for `./wal/00000001`; the root is the empty string.
pub(super) fn plain(path: &str) -> String {
    let parts = path.split('/').filter(|p| !p.is_empty() && *p != ".");
    parts.collect::<Vec<_>>().join("/")
}

/// The folder in which a name stands.
pub(super) fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn apply(change: &NameChange, to: &mut BTreeMap<String, Node>) {
    for (path, node) in change {
        match node {
            Some(node) => to.insert(path.clone(), *node),
            None => to.remove(path),
        };
    }
}

impl Names {
    /// What bears a name; the root is always there.
    pub(super) fn get(&self, path: &str) -> Option<Node> {
        match path {
            "" => Some(Node::Folder),
            _ => self.seen.get(path).copied(),
        }
    }

    /// Names and numbers of the files in a folder.
    pub(super) fn files_in<'a>(&'a self, dir: &'a str) -> impl Iterator<Item = &'a str> {
        let file = move |(path, node): (&'a String, &Node)| {
            let inside = matches!(node, Node::File(_)) && folder_of(path) == dir;
            inside.then(|| path.rsplit('/').next().unwrap_or(path))
        };
        self.seen.iter().filter_map(file)
    }

    /// All names.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, Node)> {
        self.seen.iter().map(|(path, node)| (path.as_str(), *node))
    }

    pub(super) fn change(&mut self, change: NameChange) {
        apply(&change, &mut self.seen);
        self.unsynced.push(change);
    }

    /// Makes the changes in one folder durable.
    pub(super) fn sync(&mut self, dir: &str) {
        let Self {
            durable, unsynced, ..
        } = self;
        unsynced.retain(|change| {
            let here = change.iter().any(|(path, _)| folder_of(path) == dir);
            if here {
                apply(change, durable);
            }
            !here
        });
    }

    /// The names after a power loss that kept no change which was not synced.
    pub(super) fn after_strict_power_loss(&self) -> Self {
        Self::found(self.durable.clone())
    }

    /// The names after a power loss: the first changes that were not synced, as a journal keeps them, or any of them.
    pub(super) fn after_power_loss(&self, dice: &mut Dice) -> Self {
        let mut left = self.durable.clone();
        let journalled = dice.once_in(2);
        let first = dice.below(self.unsynced.len() as u64 + 1) as usize;
        for (n, change) in self.unsynced.iter().enumerate() {
            if if journalled {
                n < first
            } else {
                dice.once_in(2)
            } {
                apply(change, &mut left);
            }
        }
        Self::found(left)
    }

    /// Names that were found on a disk; what stood in a folder that is gone is gone too.
    fn found(all: BTreeMap<String, Node>) -> Self {
        let mut seen: BTreeMap<String, Node> = BTreeMap::new();
        // A folder stands before what is in it.
        for (path, node) in all {
            let folder = folder_of(&path);
            if folder.is_empty() || seen.get(folder) == Some(&Node::Folder) {
                seen.insert(path, node);
            }
        }
        Self {
            durable: seen.clone(),
            seen,
            unsynced: Vec::new(),
        }
    }
}
