//! A store that refuses us is left alone for a while.
//!
//! A denied request (401, 403) will be denied again until an operator mends keys or policies; asking on costs requests and hides the
//! cause under timeouts. After a few refusals in a row the circuit opens: requests fail at once and name the refusal. After
//! `probe_interval` one request is let through; if it is answered, the circuit closes.
//!
//! There is one circuit per class of operation, so that a key that may read but not delete stops the compactor, not the queries.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::error::{ErrorKind, Result};
use crate::storage::data_kind::DataKind;
use crate::storage::fault::{self, Fault};
use crate::storage::meter::Operation;
use crate::storage::settings::CircuitSettings;
use crate::telemetry::{Gauge, Registry};

/// What a policy may allow apart from the rest.
#[derive(Debug, Clone, Copy)]
enum Class {
    Read,
    Write,
    List,
    Delete,
}

const CLASSES: usize = 4;

impl Class {
    const ALL: [Self; CLASSES] = [Self::Read, Self::Write, Self::List, Self::Delete];

    fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }

    fn of(operation: Operation) -> Self {
        match operation {
            Operation::Get | Operation::GetRange | Operation::Head => Self::Read,
            Operation::List => Self::List,
            Operation::Delete => Self::Delete,
            Operation::Put
            | Operation::Copy
            | Operation::MultipartCreate
            | Operation::MultipartPart
            | Operation::MultipartComplete
            | Operation::MultipartAbort => Self::Write,
        }
    }
}

/// The circuits of one component.
#[derive(Debug)]
pub(super) struct Circuit {
    settings: CircuitSettings,
    clock: Arc<dyn Clock>,
    classes: [Mutex<State>; CLASSES],
    /// 1 while the circuit of the class is open.
    open: [Arc<Gauge>; CLASSES],
}

#[derive(Debug, Default)]
struct State {
    refusals: u32,
    /// Open until this moment of the monotonic clock; then one probe passes and the moment moves on. So a probe that is
    /// cancelled needs no clean-up: the next one follows an interval later.
    closed_again_at: Option<Duration>,
    cause: String,
}

impl Circuit {
    pub(super) fn new(
        component: DataKind,
        settings: CircuitSettings,
        registry: &Registry,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let open = registry.gauge_vec(
            "lgtm_objstore_circuit_open",
            "1 while object storage is not asked for this class of operation, since it denied access.",
            &["component", "class"],
        )?;
        Ok(Self {
            settings,
            clock,
            classes: Default::default(),
            open: Class::ALL.map(|class| open.with(&[component.as_str(), class.as_str()])),
        })
    }

    /// Whether a request may be sent.
    pub(super) fn check(&self, operation: Operation) -> object_store::Result<()> {
        let mut state = self.classes[Class::of(operation) as usize].lock();
        let Some(probe_at) = state.closed_again_at else {
            return Ok(());
        };
        let now = self.clock.monotonic();
        if now >= probe_at {
            state.closed_again_at = Some(now + self.settings.probe_interval);
            return Ok(());
        }
        let cause = state.cause.clone();
        Err(Fault::CircuitOpen { cause }.into())
    }

    /// Learns how a request went.
    pub(super) fn record(&self, operation: Operation, failure: Option<&object_store::Error>) {
        let class = Class::of(operation) as usize;
        let mut state = self.classes[class].lock();
        match failure {
            Some(error) if fault::is_denied(error) => {
                state.refusals = state.refusals.saturating_add(1);
                if state.refusals >= self.settings.failures_to_open {
                    if state.closed_again_at.is_none() {
                        tracing::error!(operation = operation.as_str(), %error, "object store refuses us, circuit opened");
                    }
                    state.closed_again_at =
                        Some(self.clock.monotonic() + self.settings.probe_interval);
                    state.cause = error.to_string();
                }
            }
            // No answer says nothing about whether we are allowed.
            Some(error)
                if fault::kind_of(error) != ErrorKind::NotFound
                    && fault::kind_of(error).is_retryable() => {}
            _ => *state = State::default(),
        }
        let open = state.closed_again_at.is_some();
        self.open[class].set(if open { 1.0 } else { 0.0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn circuit(registry: &Registry, clock: Arc<dyn Clock>) -> Circuit {
        Circuit::new(DataKind::Logs, CircuitSettings::default(), registry, clock).unwrap()
    }

    fn denied() -> object_store::Error {
        object_store::Error::PermissionDenied {
            path: "a/b".into(),
            source: "AccessDenied by policy 7".into(),
        }
    }

    #[test]
    fn refusals_in_a_row_open_it_and_one_answer_closes_it() {
        let clock = Arc::new(ManualClock::default());
        let registry = Registry::new();
        let circuit = circuit(&registry, clock.clone());
        let open = || registry.samples().map(|s| s.value).sum::<f64>();
        let get = Operation::Get;
        for _ in 0..2 {
            circuit.record(get, Some(&denied()));
            circuit.check(get).unwrap();
        }
        circuit.record(get, None);
        for _ in 0..3 {
            circuit.check(get).unwrap();
            circuit.record(Operation::Head, Some(&denied()));
        }
        let error = circuit.check(get).unwrap_err();
        assert!(error.to_string().contains("policy 7"), "{error}");
        assert_eq!(fault::kind_of(&error), ErrorKind::Unavailable);
        circuit.check(Operation::Put).unwrap();
        assert_eq!(open(), 1.0);

        clock.advance(Duration::from_secs(30));
        circuit.check(get).unwrap();
        assert!(circuit.check(get).is_err(), "one probe at a time");
        circuit.record(get, Some(&denied()));
        assert!(circuit.check(get).is_err());

        clock.advance(Duration::from_secs(30));
        circuit.check(get).unwrap();
        circuit.record(get, None);
        circuit.check(get).unwrap();
        circuit.check(get).unwrap();
        assert_eq!(open(), 0.0);
    }

    #[test]
    fn a_time_out_neither_opens_nor_closes_it() {
        let circuit = circuit(&Registry::new(), Arc::new(ManualClock::default()));
        let after = Duration::from_secs(1);
        let timed_out = object_store::Error::from(Fault::TimedOut { after });
        for _ in 0..10 {
            circuit.record(Operation::Put, Some(&timed_out));
        }
        circuit.check(Operation::Put).unwrap();
        for _ in 0..3 {
            circuit.record(Operation::Put, Some(&denied()));
            circuit.record(Operation::Put, Some(&timed_out));
        }
        assert!(circuit.check(Operation::Put).is_err());
    }
}
