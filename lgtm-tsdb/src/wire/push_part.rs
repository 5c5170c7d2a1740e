//! What one ingester is to take of a request.

use std::sync::Arc;

use super::batch::{MetadataEntry, PooledBatch, SeriesView, WriteBatch};

/// What one ingester is to take of a request: all of it, or some places. Owned, so that a push to a slow replica can outlive the
/// request's caller; clones share the batch, which is freed with the last of them. Plain data: sent elsewhere, it is these series.
#[derive(Debug, Clone)]
pub struct PushPart {
    batch: Arc<PooledBatch>,
    places: Option<Places>,
}

/// Places in a batch, ascending.
#[derive(Debug, Clone)]
struct Places {
    series: Vec<u32>,
    metadata: Vec<u32>,
}

impl PushPart {
    /// All of a request.
    pub fn whole(batch: Arc<PooledBatch>) -> Self {
        Self {
            batch,
            places: None,
        }
    }

    /// The series and metadata at `places`, ascending. Series have the places that they have in the batch; those of metadata follow them, so
    /// that a request is one list of keys for the ring.
    ///
    /// # Panics
    /// When the batch has not so many places, or they do not ascend.
    pub fn of(batch: Arc<PooledBatch>, mut places: Vec<u32>) -> Self {
        assert!(places.is_sorted(), "places ascend");
        let (series, metadata) = (batch.series_count(), batch.metadata().len());
        let fits = places
            .last()
            .is_none_or(|p| (*p as usize) < series + metadata);
        assert!(
            fits,
            "a place beyond {series} series and {metadata} metadata"
        );
        let first = places.partition_point(|p| (*p as usize) < series);
        let metadata = places.split_off(first);
        let metadata = metadata.into_iter().map(|p| p - series as u32);
        Self {
            batch,
            places: Some(Places {
                metadata: metadata.collect(),
                series: places,
            }),
        }
    }

    /// Some of this part: the series and metadata of these numbers, ascending; those of metadata follow those of series.
    ///
    /// # Panics
    /// When the part has not so many, or they do not ascend.
    #[must_use]
    pub fn only(&self, numbers: Vec<u32>) -> Self {
        let Some(places) = &self.places else {
            return Self::of(Arc::clone(&self.batch), numbers);
        };
        let series = self.batch.series_count() as u32;
        let metadata = places.metadata.iter().map(|m| m + series);
        let all: Vec<u32> = places.series.iter().copied().chain(metadata).collect();
        let of_batch = numbers.iter().map(|n| all[*n as usize]).collect();
        Self::of(Arc::clone(&self.batch), of_batch)
    }

    /// What is to be taken.
    pub fn view(&self) -> PartView<'_> {
        PartView {
            batch: &self.batch,
            series: self.places.as_ref().map(|p| p.series.as_slice()),
            metadata: self.places.as_ref().map(|p| p.metadata.as_slice()),
        }
    }
}

impl From<WriteBatch> for PushPart {
    fn from(batch: WriteBatch) -> Self {
        Self::whole(Arc::new(batch.into()))
    }
}

/// A part of a request, borrowed. Its series and metadata are numbered from 0 on.
#[derive(Debug, Clone, Copy)]
pub struct PartView<'a> {
    batch: &'a WriteBatch,
    series: Option<&'a [u32]>,
    metadata: Option<&'a [u32]>,
}

impl<'a> PartView<'a> {
    /// Number of series.
    pub fn series_count(&self) -> usize {
        self.series
            .map_or_else(|| self.batch.series_count(), <[u32]>::len)
    }

    /// The series of a number.
    ///
    /// # Panics
    /// When there are not so many.
    #[inline]
    pub fn series_at(&self, number: usize) -> SeriesView<'a> {
        let place = self.series.map_or(number, |all| all[number] as usize);
        self.batch.series_at(place)
    }

    /// Whether any series of the whole request has an exemplar.
    pub fn has_exemplars(&self) -> bool {
        self.batch.exemplar_count() > 0
    }

    /// Number of entries of metadata.
    pub fn metadata_count(&self) -> usize {
        self.metadata
            .map_or_else(|| self.batch.metadata().len(), <[u32]>::len)
    }

    /// The metadata of a number.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn metadata_at(&self, number: usize) -> &'a MetadataEntry {
        let place = self.metadata.map_or(number, |all| all[number] as usize);
        &self.batch.metadata()[place]
    }
}

/// All of a batch.
impl<'a> From<&'a WriteBatch> for PartView<'a> {
    fn from(batch: &'a WriteBatch) -> Self {
        Self {
            batch,
            series: None,
            metadata: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use lgtm_core::limits::{BatchPool, Inflight, InflightBound};
    use lgtm_core::model::TimestampMs;
    use lgtm_core::model::{Metadata, Sample};

    use super::*;

    fn filled(batch: &mut WriteBatch) {
        for n in 0..3 {
            let name = format!("s{n}");
            let sample = Sample {
                t_ms: TimestampMs::new(n),
                value: 0.0,
            };
            batch.push_series([("__name__", name.as_str())].into_iter(), &[sample]);
            batch.metadata.push(MetadataEntry {
                name,
                metadata: Metadata::default(),
            });
        }
    }

    #[test]
    fn a_part_has_the_series_and_the_metadata_at_its_places() {
        let mut batch = PooledBatch::default();
        filled(&mut batch);
        let batch = Arc::new(batch);
        let times = |v: PartView<'_>| -> Vec<TimestampMs> {
            let all = (0..v.series_count()).map(|n| v.series_at(n).samples[0].t_ms);
            all.collect()
        };
        let names = |v: PartView<'_>| -> Vec<String> {
            let all = (0..v.metadata_count()).map(|n| v.metadata_at(n).name.clone());
            all.collect()
        };
        let part = PushPart::of(Arc::clone(&batch), vec![0, 2, 4]);
        assert_eq!(times(part.view()), [0, 2]);
        assert_eq!(names(part.view()), ["s1"]);
        let whole = PushPart::whole(Arc::clone(&batch));
        assert_eq!(
            (times(whole.view()).len(), names(whole.view()).len()),
            (3, 3)
        );
        // Some of all, and some of some: its series are s0 and s2, its metadata s1.
        assert_eq!(names(whole.only(vec![1, 3]).view()), ["s0"]);
        let some = part.only(vec![1, 2]);
        assert_eq!(times(some.view()), [2]);
        assert_eq!(names(some.view()), ["s1"]);
        let none = PushPart::of(batch, Vec::new());
        assert_eq!((times(none.view()).len(), names(none.view()).len()), (0, 0));
    }

    #[test]
    fn the_last_replica_gives_batch_and_room_back() {
        let bound = InflightBound { max: 0, hint: "" };
        let pushes = Arc::new(Inflight::new(bound, bound));
        let pool = Arc::new(BatchPool::default());
        let mut batch = pool.take(pushes.ticket());
        filled(&mut batch);
        if let (_, Some(room)) = batch.parts() {
            room.add(100).unwrap();
        }
        let batch = Arc::new(batch);
        let parts = [vec![0, 1], vec![1, 2]].map(|p| PushPart::of(Arc::clone(&batch), p));
        drop(batch);
        let [fast, slow] = parts;
        drop(fast);
        assert_eq!(pushes.bytes(), 100);
        assert_eq!(slow.view().series_at(1).samples[0].t_ms, 2);
        drop(slow);
        assert_eq!(pushes.bytes(), 0);
        let again = pool.take(pushes.ticket());
        assert_eq!(again.series_count(), 0);
        assert!(again.heap_bytes() > 0, "the memory is used again");
    }
}
