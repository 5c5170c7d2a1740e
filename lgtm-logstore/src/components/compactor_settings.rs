//! How index files are joined, and what is over deleted.

use std::time::Duration;

use lgtm_core::units::ByteSize;
use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::bucket::BucketWriterSettings;

/// How index files are joined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompactorSettings {
    /// How often tables are looked at. Default 10m, Loki's.
    #[serde(with = "lgtm_core::units::duration")]
    pub compaction_interval: Duration,
    /// Files by which a table grows before they are joined, while its day lasts. Default 4: an hour of one ingester; each join writes a file a
    /// tenant anew, each file more is one that queries of the day open.
    pub min_files: usize,
    /// How long after its end a day still counts as lasting. Default 2h: until then ingesters have written what they held of it.
    #[serde(with = "lgtm_core::units::duration")]
    pub settle_after: Duration,
    /// How long joined files stay beside the new one. Default 15m: three times the interval in which readers list tables anew, so that none
    /// looks for a file that is gone.
    #[serde(with = "lgtm_core::units::duration")]
    pub delete_delay: Duration,
    /// How long chunks stay in the store that no index file names any more. Default 2h, Loki's `retention_delete_delay`: longer than any query
    /// that found them takes, and time to notice a wrong setting. At least `delete_delay`, and more than the ingesters' `index_interval`.
    #[serde(with = "lgtm_core::units::duration")]
    pub deletion_delay: Duration,
    /// How often tables of past days that were found in order are listed again. Default 1h: late data reach them now and then.
    #[serde(with = "lgtm_core::units::duration")]
    pub full_interval: Duration,
    /// Files that are joined at once; the others follow in the next round. Default 64.
    pub max_files: usize,
    /// Bytes of files, as they are stored, that are joined at once. Default 128MiB. Unpacked they take three to four times that, in memory or,
    /// where there is a local folder, there.
    pub max_input_size: ByteSize,
    /// Chunks of one file that are written anew in a round, for what is to be deleted of them or to merge them; the others follow in the next round. Default 1024: each
    /// is read and written, some at a time, so that a round takes minutes at most.
    pub max_rewritten_chunks: usize,
    /// Lines and metadata, before compression, of chunks that are merged with their neighbours in the stream when their day is over. 0 (default): none are;
    /// where many streams idle, 256KiB makes objects and index several times smaller in number, for one more read and write of such chunks.
    pub merge_chunks_below: ByteSize,
    /// The same of a merged chunk, at most. Default 4MiB: about a MiB as it is stored. At least `merge_chunks_below`, at most 1GiB.
    pub merged_chunk_size: ByteSize,
    /// Fewer such chunks of a stream are left as they are. Default 4; at least 2.
    pub merge_chunks_from: usize,
    /// How chunks are written that take the place of others.
    pub writer: BucketWriterSettings,
    /// Bytes of side objects of one day that are joined at once; those of more than half of it are left as they are. Default 16MiB: in memory twice,
    /// and what a query reads of a day's side objects is in few of them.
    pub max_side_input_size: ByteSize,
    /// Bytes of a new file, as it is stored; it is kept in memory until it is put. Default 512MiB: a tenant's day of some hundred million
    /// chunks.
    pub max_packed_size: ByteSize,
    /// Bytes that one index file may unpack to. Default 2GiB.
    pub max_index_file_size: ByteSize,
    /// Packed size from which on files are unpacked to the local folder, if there is one. Default 2MiB.
    pub local_index_file_size: ByteSize,
    /// Memory for the postings of a new file. Default 256MiB; beyond it they go to the local folder.
    pub max_postings_memory: ByteSize,
}

impl Default for CompactorSettings {
    fn default() -> Self {
        Self {
            compaction_interval: Duration::from_secs(600),
            min_files: 4,
            settle_after: Duration::from_secs(2 * 3600),
            delete_delay: Duration::from_secs(15 * 60),
            deletion_delay: Duration::from_secs(2 * 3600),
            full_interval: Duration::from_secs(3600),
            max_files: 64,
            max_input_size: ByteSize::mib(128),
            max_rewritten_chunks: 1024,
            merge_chunks_below: ByteSize::bytes(0),
            merged_chunk_size: ByteSize::mib(4),
            merge_chunks_from: 4,
            writer: BucketWriterSettings::default(),
            max_side_input_size: ByteSize::mib(16),
            max_packed_size: ByteSize::mib(512),
            max_index_file_size: ByteSize::mib(2048),
            local_index_file_size: ByteSize::mib(2),
            max_postings_memory: ByteSize::mib(256),
        }
    }
}

impl CompactorSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// `InvalidInput` naming every fault.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        if self.compaction_interval < Duration::from_secs(1) {
            faults.push(format!(
                "compaction_interval {:?} is less than 1s",
                self.compaction_interval
            ));
        }
        if self.deletion_delay < self.delete_delay {
            faults.push(format!(
                "deletion_delay {:?} is less than delete_delay {:?}",
                self.deletion_delay, self.delete_delay
            ));
        }
        if let Err(e) = self.writer.validate() {
            faults.push(format!("writer: {e}"));
        }
        if self.max_rewritten_chunks == 0 {
            faults.push("max_rewritten_chunks is 0".to_owned());
        }
        faults.extend(self.faults_of_merging());
        if self.min_files == 0 {
            faults.push("min_files is 0".to_owned());
        }
        if self.max_files < 2 {
            faults.push(format!("max_files {} is less than 2", self.max_files));
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Error::InvalidInput(faults.join("; ")))
        }
    }
    /// Bytes are what indexes count, in KiB, and a chunk is merged in memory.
    fn faults_of_merging(&self) -> Vec<String> {
        const KIB: u64 = 1 << 10;
        const GIB: u64 = 1 << 30;
        let (below, most) = (self.merge_chunks_below, self.merged_chunk_size);
        let mut faults = Vec::new();
        if below.as_u64() > 0 && below.as_u64() < KIB {
            faults.push(format!("merge_chunks_below {below} is less than 1KiB"));
        }
        if most < below {
            faults.push(format!(
                "merged_chunk_size {most} is less than merge_chunks_below {below}"
            ));
        }
        if most.as_u64() < KIB || most.as_u64() > GIB {
            faults.push(format!("merged_chunk_size {most} is not from 1KiB to 1GiB"));
        }
        if self.merge_chunks_from < 2 {
            faults.push(format!(
                "merge_chunks_from {} is less than 2",
                self.merge_chunks_from
            ));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_merging_that_make_no_sense_are_named() {
        let told = |change: fn(&mut CompactorSettings)| {
            let mut settings = CompactorSettings::default();
            change(&mut settings);
            settings.validate().map_err(|e| e.to_string())
        };
        assert_eq!(told(|s| s.merge_chunks_below = ByteSize::kib(256)), Ok(()));
        type Change = fn(&mut CompactorSettings);
        let cases: [(Change, &str); 5] = [
            (
                |s| s.merge_chunks_below = ByteSize::bytes(1023),
                "less than 1KiB",
            ),
            (
                |s| {
                    s.merge_chunks_below = ByteSize::kib(256);
                    s.merged_chunk_size = ByteSize::kib(128);
                },
                "merged_chunk_size 128KiB is less than merge_chunks_below 256KiB",
            ),
            (
                |s| s.merged_chunk_size = ByteSize::bytes(0),
                "not from 1KiB",
            ),
            (|s| s.merged_chunk_size = ByteSize::mib(1025), "to 1GiB"),
            (|s| s.merge_chunks_from = 1, "merge_chunks_from 1"),
        ];
        for (change, text) in cases {
            let fault = told(change).unwrap_err();
            assert!(fault.contains(text), "{fault}");
        }
    }
}
