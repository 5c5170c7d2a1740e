//! What a bucket holds and is asked for, day by day: that a store which runs for long levels off.

use std::fmt;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::ObjectStore;

use super::FaultyStore;

/// A bucket at the end of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BucketDay {
    /// Objects that it holds.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Requests of the day, of any kind.
    pub requests: u64,
}

/// Writes down what a bucket holds and is asked for at the end of each day.
#[derive(Debug)]
pub struct BucketDiary {
    asked: FaultyStore,
    held: Arc<dyn ObjectStore>,
    days: Vec<BucketDay>,
    requests_before: u64,
}

impl BucketDiary {
    /// Of a store that counts its requests, around `held`.
    pub fn new(asked: FaultyStore, held: Arc<dyn ObjectStore>) -> Self {
        let requests_before = asked.all_requests();
        Self {
            asked,
            held,
            days: Vec::new(),
            requests_before,
        }
    }

    /// Ends a day.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn day_ends(&mut self) -> object_store::Result<BucketDay> {
        let requests = self.asked.all_requests();
        let mut day = BucketDay {
            requests: requests - self.requests_before,
            ..BucketDay::default()
        };
        let mut all = self.held.list(None);
        while let Some(object) = all.try_next().await? {
            day.objects += 1;
            day.bytes += object.size;
        }
        self.requests_before = requests;
        self.days.push(day);
        Ok(day)
    }

    /// The days so far.
    pub fn days(&self) -> &[BucketDay] {
        &self.days
    }

    /// Whether the days from `day` on (counted from 0) have levelled off: the second half of them holds and costs at most a tenth more than the first.
    ///
    /// # Errors
    /// A sentence that names what still grows.
    pub fn has_levelled_off(&self, day: usize) -> Result<(), String> {
        let rest = self.days.get(day..).unwrap_or_default();
        let (first, second) = rest.split_at(rest.len() / 2);
        type Of = fn(&BucketDay) -> u64;
        let figures: [(&str, Of); 3] = [
            ("objects", |d| d.objects),
            ("bytes", |d| d.bytes),
            ("requests a day", |d| d.requests),
        ];
        for (name, of) in figures {
            let most = |days: &[BucketDay]| days.iter().map(of).max().unwrap_or(0);
            let (before, after) = (most(first), most(second));
            if after > before + before / 10 {
                return Err(format!("{name} still grow: {before}, then {after}\n{self}"));
            }
        }
        Ok(())
    }
}

/// A table, one line a day.
impl fmt::Display for BucketDiary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| day | objects | KiB | requests |\n|---|---|---|---|")?;
        for (n, day) in self.days.iter().enumerate() {
            let (objects, kib, requests) = (day.objects, day.bytes >> 10, day.requests);
            writeln!(f, "| {} | {objects} | {kib} | {requests} |", n + 1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;
    use object_store::path::Path;

    use super::*;

    #[tokio::test]
    async fn what_grows_and_what_does_not_is_told() {
        let held: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let asked = FaultyStore::new(Arc::clone(&held), 1);
        let mut diary = BucketDiary::new(asked.clone(), held);
        for day in 0..8 {
            let path = Path::from(format!("a/{}", day.min(4)));
            asked.put(&path, "four".into()).await.unwrap();
            diary.day_ends().await.unwrap();
        }
        let last = BucketDay {
            objects: 5,
            bytes: 20,
            requests: 1,
        };
        assert_eq!(diary.days().last(), Some(&last));
        diary.has_levelled_off(4).unwrap();
        let grows = diary.has_levelled_off(0).unwrap_err();
        assert!(
            grows.starts_with("objects still grow: 4, then 5"),
            "{grows}"
        );
    }
}
