//! How requests to object storage are guarded.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::units::{ByteSize, duration};

/// Bounds of the requests of one component.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageSettings {
    /// Deadline of one try of a small request, and of each piece of a body that is being read. Default 30s: an object store that is
    /// silent for so long is down, and a query behind it should try again or give up.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
    /// Deadline of one try of sending an object or a part. Default 5m: 64 MiB over a slow line.
    #[serde(with = "duration")]
    pub upload_timeout: Duration,
    /// The most requests of a component at a time. Default 128: hides the latency of an object store (about 50 ms) at thousands of
    /// requests per second, and is below the limits on open files.
    pub max_concurrent: usize,
    /// The most requests that wait for a slot; more are refused. Default 4096: a few seconds' worth.
    pub max_waiting: usize,
    /// Ranges of one object that stand closer than this are read by one request. Default 512KiB: about what a request's latency
    /// costs in transfer time.
    pub coalesce_gap: ByteSize,
    /// Objects larger than this are uploaded in parts of this size. Default 16MiB: above every store's minimum of 5 MiB, and S3's
    /// 10 000 parts then hold 156 GiB.
    pub part_size: ByteSize,
    /// Parts of one object that are uploaded at a time. Default 4: with the default part size 64 MiB of memory per upload.
    pub upload_concurrency: usize,
    /// Memory for the parts of an upload of which is known how large it will be, as of a compacted block: the larger they are, the fewer requests.
    /// Default 256MiB: an object of 512 MB takes 6 requests instead of 34. Data of a compacted block of traces may take twice as much; the index of a
    /// block of metrics, which is sent beside its chunks, half as much.
    pub upload_memory: ByteSize,
    /// Repeating of failed requests.
    pub retry: RetrySettings,
    /// Not asking a store that refuses us.
    pub circuit: CircuitSettings,
}

impl Default for StorageSettings {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(30),
            upload_timeout: Duration::from_secs(300),
            max_concurrent: 128,
            max_waiting: 4096,
            coalesce_gap: ByteSize::kib(512),
            part_size: ByteSize::mib(16),
            upload_concurrency: 4,
            upload_memory: ByteSize::mib(256),
            retry: RetrySettings::default(),
            circuit: CircuitSettings::default(),
        }
    }
}

/// When and how often a failed request is repeated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetrySettings {
    /// Tries in all. Default 4: three repeats over about a second ride out a throttled or restarting front end of a store.
    pub max_attempts: u32,
    /// The longest wait before the second try; doubled for each further one. Default 200ms.
    #[serde(with = "duration")]
    pub initial_backoff: Duration,
    /// The longest wait before a request is tried again. Default 5s.
    #[serde(with = "duration")]
    pub max_backoff: Duration,
    /// A request that takes longer in all is not tried again. Default 1m: with the deadline of a try it bounds how long a caller waits.
    #[serde(with = "duration")]
    pub max_elapsed: Duration,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            max_attempts: 4,
            initial_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(5),
            max_elapsed: Duration::from_secs(60),
        }
    }
}

/// When a store that refuses us is no longer asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CircuitSettings {
    /// Refusals (401, 403) in a row that open the circuit. Default 3: one alone may be a single object's policy, or S3's answer for a
    /// missing object when listing is not allowed.
    pub failures_to_open: u32,
    /// How long an open circuit waits before it lets one request through. Default 30s: soon after an operator has mended the policy.
    #[serde(with = "duration")]
    pub probe_interval: Duration,
}

impl Default for CircuitSettings {
    fn default() -> Self {
        Self {
            failures_to_open: 3,
            probe_interval: Duration::from_secs(30),
        }
    }
}

impl StorageSettings {
    /// Checks all values.
    ///
    /// # Errors
    /// `InvalidInput` that names every setting out of its bounds.
    pub fn validate(&self) -> Result<()> {
        let mib = 1024 * 1024;
        let part = self.part_size.as_u64();
        let retry = &self.retry;
        let checks = [
            (
                !self.request_timeout.is_zero(),
                "request_timeout must be above 0",
            ),
            (
                !self.upload_timeout.is_zero(),
                "upload_timeout must be above 0",
            ),
            // Above 100 000 the semaphore's own bound would be in reach on small machines, and no store serves it.
            (
                (1..=100_000).contains(&self.max_concurrent),
                "max_concurrent must be 1 to 100000",
            ),
            (
                self.max_waiting <= 10_000_000,
                "max_waiting must be at most 10000000",
            ),
            (
                self.coalesce_gap.as_u64() <= 64 * mib,
                "coalesce_gap must be at most 64MiB",
            ),
            (
                (5 * mib..=1024 * mib).contains(&part),
                "part_size must be 5MiB to 1GiB",
            ),
            (
                (1..=64).contains(&self.upload_concurrency),
                "upload_concurrency must be 1 to 64",
            ),
            (
                (10 * mib..=2048 * mib).contains(&self.upload_memory.as_u64()),
                "upload_memory must be 10MiB to 2GiB",
            ),
            (
                (1..=100).contains(&retry.max_attempts),
                "retry.max_attempts must be 1 to 100",
            ),
            (
                retry.initial_backoff <= retry.max_backoff,
                "retry.initial_backoff must be at most retry.max_backoff",
            ),
            (
                self.circuit.failures_to_open >= 1,
                "circuit.failures_to_open must be at least 1",
            ),
            (
                !self.circuit.probe_interval.is_zero(),
                "circuit.probe_interval must be above 0",
            ),
        ];
        let broken: Vec<_> = checks
            .iter()
            .filter(|(ok, _)| !ok)
            .map(|(_, why)| *why)
            .collect();
        if broken.is_empty() {
            return Ok(());
        }
        Err(Error::InvalidInput(format!(
            "storage settings: {}",
            broken.join("; ")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_survive_a_round_trip() {
        let settings = StorageSettings::default();
        settings.validate().unwrap();
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(
            serde_json::from_str::<StorageSettings>(&text).unwrap(),
            settings
        );
        assert!(serde_json::from_str::<StorageSettings>(r#"{"max_concurent":1}"#).is_err());
    }

    #[test]
    fn every_fault_is_named() {
        let settings = StorageSettings {
            max_concurrent: 0,
            part_size: ByteSize::kib(1),
            ..Default::default()
        };
        let message = settings.validate().unwrap_err().to_string();
        assert!(
            message.contains("max_concurrent") && message.contains("part_size"),
            "{message}"
        );
    }
}
