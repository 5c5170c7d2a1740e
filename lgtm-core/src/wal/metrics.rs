//! What a log tells of itself. A process has one log a signal, which the label `signal` names.

use super::replay::{ReplayProgress, ReplayReport};
use super::wal::{Refusal, WalStats};
use crate::telemetry::Collection;

impl WalStats {
    /// Gives the counts of the log of a signal (`metrics`, `logs`, `traces`).
    pub fn tell(&self, signal: &str, out: &mut Collection) {
        let labels = [("signal", signal)];
        for (name, help, count) in [
            (
                "lgtm_wal_written_bytes_total",
                "Bytes written to the log.",
                self.bytes_written,
            ),
            (
                "lgtm_wal_records_total",
                "Records appended to the log.",
                self.records,
            ),
            (
                "lgtm_wal_frames_total",
                "Groups of records written.",
                self.frames,
            ),
            ("lgtm_wal_syncs_total", "Syncs of the log.", self.syncs),
        ] {
            out.counter(name, help, &labels, count as f64);
        }
        for (name, help, value) in [
            (
                "lgtm_wal_size_bytes",
                "Size of the log on disk.",
                self.size_bytes as f64,
            ),
            (
                "lgtm_wal_failing",
                "1 while the log cannot be written.",
                f64::from(u8::from(self.failing)),
            ),
            (
                "lgtm_wal_poisoned",
                "1 after a failed sync.",
                f64::from(u8::from(self.poisoned)),
            ),
        ] {
            out.gauge(name, help, &labels, value);
        }
    }
}

impl Refusal {
    /// Gives for how long the log of a signal has taken nothing; `None`: it takes all.
    pub fn tell(refusal: Option<&Self>, signal: &str, out: &mut Collection) {
        out.gauge(
            "lgtm_ingester_writes_refused_seconds",
            "Since how long no write is taken, for trouble with the log or lack of room in its buffer; 0 while writes are taken.",
            &[("signal", signal)],
            refusal.map_or(0.0, |r| r.lasted.as_secs_f64()),
        );
    }
}

impl ReplayProgress {
    /// Gives how far the log of a signal was read back.
    pub fn tell(&self, signal: &str, out: &mut Collection) {
        let labels = [("signal", signal)];
        out.gauge(
            "lgtm_wal_replay_done_bytes",
            "Bytes of the log read back at start.",
            &labels,
            self.done_bytes as f64,
        );
        out.gauge(
            "lgtm_wal_replay_total_bytes",
            "Bytes of the log that were there at start.",
            &labels,
            self.total_bytes as f64,
        );
    }
}

impl ReplayReport {
    /// Gives what of the log of a signal could not be read back, and how many chunks that its checkpoint names are lost.
    pub fn tell(&self, signal: &str, lost_chunks: u64, out: &mut Collection) {
        let labels = [("signal", signal)];
        for (name, help, value) in [
            (
                "lgtm_wal_replay_damaged",
                "Damaged parts of the log set aside at start, and runs of segments that are missing.",
                self.set_aside.len() as u64,
            ),
            (
                "lgtm_wal_replay_lost_chunks",
                "Chunks that a checkpoint names and the chunk files did not have at start.",
                lost_chunks,
            ),
            (
                "lgtm_wal_replay_torn_tail_bytes",
                "Bytes cut off the end of the log at start.",
                self.torn_tail,
            ),
        ] {
            out.gauge(name, help, &labels, value as f64);
        }
    }
}
