//! Changes that wait to be told to others.
//!
//! A queue in which the change sent least often comes first, own changes before those passed on for others. Each is sent a bounded
//! number of times and then dropped: by then nearly everyone has it, and the exchange of everything finds the rest. A newer change that
//! names all members of an older one of the same key makes the older one obsolete.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

/// Whose change it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// Made here.
    Own,
    /// Heard from others.
    Forwarded,
}

/// The place in the queue: own ones first, then the ones sent least, then the newest.
type Rank = (Origin, u32, Reverse<u64>);

/// Changes that do not fit are looked past, but not for ever.
const MAX_LOOKED_PAST: usize = 64;

#[derive(Debug)]
struct QueuedBroadcast {
    key: Arc<str>,
    members: Vec<Arc<str>>,
    /// A framed pair.
    bytes: Bytes,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Broadcasts {
    items: BTreeMap<Rank, QueuedBroadcast>,
    ranks: HashMap<u64, Rank>,
    /// Numbers of the queued changes that name a member of a key.
    by_member: HashMap<(Arc<str>, Arc<str>), Vec<u64>>,
    bytes: usize,
    own: usize,
    next: u64,
    max_bytes: usize,
    dropped: u64,
}

impl Broadcasts {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            items: BTreeMap::new(),
            ranks: HashMap::new(),
            by_member: HashMap::new(),
            bytes: 0,
            own: 0,
            next: 0,
            max_bytes,
            dropped: 0,
        }
    }

    /// Queues a framed pair about `members` of `key`. Without members (a deletion of the key) it makes all older ones of the key obsolete.
    pub(super) fn push(&mut self, origin: Origin, key: &str, members: Vec<String>, bytes: Bytes) {
        let key: Arc<str> = key.into();
        let mut members: Vec<Arc<str>> = members.into_iter().map(Arc::from).collect();
        members.sort();
        members.dedup();
        self.drop_obsolete(&key, &members);
        let id = self.next;
        self.next += 1;
        let rank = (origin, 0, Reverse(id));
        for member in &members {
            let named = (key.clone(), member.clone());
            self.by_member.entry(named).or_default().push(id);
        }
        self.bytes += bytes.len();
        self.own += usize::from(origin == Origin::Own);
        self.ranks.insert(id, rank);
        let item = QueuedBroadcast {
            key,
            members,
            bytes,
        };
        self.items.insert(rank, item);
        while self.bytes > self.max_bytes {
            let Some((&rank, _)) = self.items.last_key_value() else {
                break;
            };
            self.remove(rank);
            self.dropped += 1;
        }
    }

    fn drop_obsolete(&mut self, key: &Arc<str>, members: &[Arc<str>]) {
        let mut obsolete: Vec<Rank> = Vec::new();
        if members.is_empty() {
            let of_key = self.items.iter().filter(|(_, item)| item.key == *key);
            obsolete.extend(of_key.map(|(rank, _)| *rank));
        }
        // Each is looked at once, however many of its members are named.
        let mut looked_at = HashSet::new();
        for member in members {
            let named = (key.clone(), member.clone());
            for id in self.by_member.get(&named).into_iter().flatten() {
                if !looked_at.insert(*id) {
                    continue;
                }
                let rank = self.ranks[id];
                let older = &self.items[&rank].members;
                let covered = |m: &Arc<str>| members.binary_search(m).is_ok();
                if older.iter().all(covered) {
                    obsolete.push(rank);
                }
            }
        }
        for rank in obsolete {
            self.remove(rank);
        }
    }

    fn remove(&mut self, rank: Rank) -> Option<QueuedBroadcast> {
        let item = self.items.remove(&rank)?;
        let Reverse(id) = rank.2;
        self.ranks.remove(&id);
        self.bytes -= item.bytes.len();
        self.own -= usize::from(rank.0 == Origin::Own);
        for member in &item.members {
            let named = (item.key.clone(), member.clone());
            if let Some(ids) = self.by_member.get_mut(&named) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    self.by_member.remove(&named);
                }
            }
        }
        Some(item)
    }

    /// The changes for one member, as messages: no more than `total` bytes in all, but at least one change. Those of up to `small` bytes
    /// share messages of up to that size, larger ones share one of their own. Each change is then counted as sent once more, and
    /// dropped when that was the last of `limit` times.
    pub(super) fn take(&mut self, small: usize, total: usize, limit: u32) -> Vec<Vec<Bytes>> {
        let mut chosen = Vec::new();
        let (mut left, mut looked_past) = (total, 0);
        for (rank, item) in &self.items {
            if item.bytes.len() <= left || chosen.is_empty() {
                left = left.saturating_sub(item.bytes.len());
                chosen.push(*rank);
            } else {
                looked_past += 1;
            }
            if looked_past > MAX_LOOKED_PAST || left == 0 {
                break;
            }
        }
        let mut messages: Vec<Vec<Bytes>> = Vec::new();
        let (mut large, mut room) = (Vec::new(), 0);
        for rank in chosen {
            let bytes = self.sent(rank, limit);
            if bytes.len() > small {
                large.push(bytes);
                continue;
            }
            if bytes.len() > room {
                messages.push(Vec::new());
                room = small;
            }
            room -= bytes.len();
            messages.last_mut().expect("one was made").push(bytes);
        }
        messages.extend((!large.is_empty()).then_some(large));
        messages
    }

    /// Counts one transmission.
    fn sent(&mut self, rank: Rank, limit: u32) -> Bytes {
        let (origin, times, id) = rank;
        let bytes = self.items[&rank].bytes.clone();
        if times + 1 >= limit {
            self.remove(rank);
            return bytes;
        }
        let item = self.items.remove(&rank).expect("the rank was found above");
        let rank = (origin, times + 1, id);
        self.ranks.insert(id.0, rank);
        self.items.insert(rank, item);
        bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Own and forwarded changes that wait.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.own, self.items.len() - self.own)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes dropped because the queue was full.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &mut Broadcasts, origin: Origin, members: &[&str], text: &'static str) {
        let members = members.iter().map(|m| (*m).to_owned()).collect();
        queue.push(origin, "ring", members, Bytes::from_static(text.as_bytes()));
    }

    fn take(queue: &mut Broadcasts, limit: u32) -> Vec<String> {
        let taken = queue.take(100, 1000, limit);
        let text = |b: &Bytes| String::from_utf8(b.to_vec()).unwrap();
        taken.iter().flatten().map(text).collect()
    }

    #[test]
    fn own_changes_come_first_and_each_is_sent_so_often() {
        let mut queue = Broadcasts::new(1000);
        push(&mut queue, Origin::Forwarded, &["b"], "theirs");
        push(&mut queue, Origin::Own, &["a"], "ours");
        assert_eq!(queue.counts(), (1, 1));
        for _ in 0..3 {
            assert_eq!(take(&mut queue, 3), ["ours", "theirs"]);
        }
        assert!(take(&mut queue, 3).is_empty() && queue.is_empty());
        assert_eq!(
            (queue.bytes(), queue.by_member.len(), queue.ranks.len()),
            (0, 0, 0)
        );
    }

    #[test]
    fn a_newer_change_of_the_same_members_takes_the_place_of_the_older() {
        let mut queue = Broadcasts::new(1000);
        push(&mut queue, Origin::Own, &["a"], "a1");
        push(&mut queue, Origin::Forwarded, &["a", "b"], "ab");
        assert_eq!(queue.counts(), (0, 1));
        push(&mut queue, Origin::Own, &["a"], "a2");
        assert_eq!(queue.counts(), (1, 1), "b is still only in the older one");
        push(&mut queue, Origin::Own, &["c", "b", "a"], "abc");
        assert_eq!(take(&mut queue, 3), ["abc"]);
        push(&mut queue, Origin::Own, &[], "deleted");
        assert_eq!(take(&mut queue, 3), ["deleted"]);
    }

    #[test]
    fn what_does_not_fit_a_datagram_gets_a_message_of_its_own() {
        let mut queue = Broadcasts::new(10_000);
        push(&mut queue, Origin::Own, &["a"], "small");
        let large = Bytes::from(vec![b'x'; 500]);
        queue.push(Origin::Own, "ring", vec!["b".into()], large.clone());
        let first = queue.take(100, 1000, 4);
        assert_eq!(first, [vec![Bytes::from_static(b"small")], vec![large]]);
        // Larger than all that may be sent at once: still goes out, alone.
        queue.push(Origin::Own, "ring", vec!["c".into()], vec![0; 2000].into());
        assert_eq!(queue.take(100, 1000, 4).len(), 1);
    }

    #[test]
    fn many_changes_share_messages_up_to_the_whole_budget() {
        let mut queue = Broadcasts::new(10_000);
        for n in 0..50 {
            queue.push(
                Origin::Own,
                "ring",
                vec![format!("{n}")],
                vec![n; 30].into(),
            );
        }
        let messages = queue.take(100, 1000, 4);
        assert!(messages.iter().all(|m| m.len() <= 3), "{messages:?}");
        let mut sent: Vec<_> = messages.concat();
        assert_eq!(sent.len(), 33);
        sent.dedup();
        assert_eq!(sent.len(), 33, "none twice to the same member");
        // The next member gets those that were not sent yet first.
        let next: Vec<_> = queue.take(100, 1000, 4).concat();
        assert_eq!(next.iter().filter(|b| !sent.contains(*b)).count(), 17);
    }

    #[test]
    fn a_full_queue_drops_what_was_sent_most() {
        let mut queue = Broadcasts::new(12);
        push(&mut queue, Origin::Forwarded, &["a"], "aaaaaa");
        take(&mut queue, 9);
        push(&mut queue, Origin::Forwarded, &["b"], "bbbbbb");
        push(&mut queue, Origin::Forwarded, &["c"], "cccccc");
        assert_eq!((queue.bytes(), queue.dropped()), (12, 1));
        assert_eq!(take(&mut queue, 9), ["cccccc", "bbbbbb"]);
    }
}
