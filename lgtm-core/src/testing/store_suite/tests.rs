//! The suite on its reference store: it passes as it is, and each sabotage of it is found.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::*;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::model::{TenantId, TimeRange};
use crate::testing::StoreFault;

/// What a store does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sabotage {
    Nothing,
    /// One entry is gone after a restart.
    ForgetsAtRestart,
    /// Half is missing from what is asked while a flush runs.
    HidesDuringFlush,
    /// What was flushed while a question waited is in its answer twice.
    AnswersTwice,
    /// An answer has an entry of another tenant's.
    MixesTenants,
    /// A value is another.
    ChangesValues,
    /// A push is logged with the next one.
    AcknowledgesUnlogged,
    /// An entry that was refused and is sent again is acknowledged without being logged.
    AcknowledgesTheRepeatUnlogged,
    /// A checkpoint removes the old log before the new one is there.
    RemovesBeforeItWrites,
    /// Warnings are not passed on.
    SwallowsWarnings,
    /// A flush that failed forgets what it should have moved.
    ForgetsAfterFailedFlush,
    /// A fault of the object store is remembered for ever.
    NeverHeals,
    /// It does not start without its object store.
    NeedsObjectsToStart,
    /// An error that no client would try again.
    AnswersInternal,
    /// It promises more than its log does.
    PromisesPowerLoss,
    /// A question that meets a flush is never answered.
    Hangs,
}

struct SabotagedOpener {
    inner: ModelOpener,
    how: Sabotage,
    opened: AtomicU32,
}

struct Sabotaged {
    inner: ModelStore,
    ground: Ground,
    how: Sabotage,
    is_reopened: bool,
    is_flushing: AtomicBool,
    has_failed: AtomicBool,
    /// Acknowledged, but not logged.
    held: Mutex<Vec<(TenantId, Vec<Entry>)>>,
    /// Refused.
    refused: Mutex<Vec<Vec<Entry>>>,
}

fn opener(how: Sabotage) -> SabotagedOpener {
    SabotagedOpener {
        inner: ModelOpener {
            durable: how != Sabotage::PromisesPowerLoss,
        },
        how,
        opened: AtomicU32::new(0),
    }
}

impl StoreOpener for SabotagedOpener {
    type Store = Sabotaged;

    async fn open(&self, ground: &Ground) -> Result<Sabotaged> {
        use futures::TryStreamExt;
        use object_store::ObjectStore;
        if self.how == Sabotage::NeedsObjectsToStart {
            let objects: Result<Vec<_>, _> = ground.objects.list(None).try_collect().await;
            objects.map_err(|e| Error::Unavailable(e.to_string()))?;
        }
        Ok(Sabotaged {
            inner: self.inner.open(ground).await?,
            ground: ground.clone(),
            how: self.how,
            is_reopened: self.opened.fetch_add(1, Ordering::SeqCst) > 0,
            is_flushing: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            held: Mutex::default(),
            refused: Mutex::default(),
        })
    }

    fn survives_power_loss(&self) -> bool {
        true
    }
}

impl Sabotaged {
    fn is(&self, how: Sabotage) -> bool {
        self.how == how
    }
}

/// Says that a flush is over, however it ends.
struct Flushing<'a>(&'a AtomicBool);

impl Drop for Flushing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl StoreUnderTest for Sabotaged {
    async fn recover(&self) -> Result<()> {
        self.inner.recover().await
    }

    async fn push(&self, tenant: &TenantId, entries: &[Entry]) -> Result<()> {
        if self.is(Sabotage::AcknowledgesUnlogged) {
            let now = (tenant.clone(), entries.to_vec());
            let before = std::mem::replace(&mut *self.held.lock().unwrap(), vec![now]);
            for (tenant, entries) in before {
                self.inner.push(&tenant, &entries).await?;
            }
            return Ok(());
        }
        if self.is(Sabotage::AcknowledgesTheRepeatUnlogged) {
            let mut refused = self.refused.lock().unwrap();
            if refused.iter().any(|known| known == entries) {
                let now = (tenant.clone(), entries.to_vec());
                self.held.lock().unwrap().push(now);
                return Ok(());
            }
            // Every third push is refused with its entries in memory, as by a log that was full.
            if entries.first().is_some_and(|e| e.value % 3 == 0) {
                refused.push(entries.to_vec());
                return Err(Error::Unavailable("the log is full".into()));
            }
        }
        self.inner.push(tenant, entries).await
    }

    async fn ask(&self, tenant: &TenantId, range: TimeRange) -> Result<Answer> {
        let met_flush = self.is_flushing.load(Ordering::SeqCst);
        if met_flush && self.is(Sabotage::Hangs) {
            std::future::pending::<()>().await;
        }
        let mut answer = self.inner.ask(tenant, range).await?;
        for (held_by, entries) in &*self.held.lock().unwrap() {
            if held_by == tenant {
                let inside = entries.iter().filter(|e| range.contains(e.time_ms));
                answer.entries.extend(inside);
            }
        }
        let has_failed = self.has_failed.load(Ordering::SeqCst);
        let entries = &mut answer.entries;
        match self.how {
            Sabotage::ForgetsAtRestart if self.is_reopened => drop(entries.pop()),
            Sabotage::HidesDuringFlush if met_flush => entries.truncate(entries.len() / 2),
            Sabotage::AnswersTwice if met_flush => entries.extend(entries.first().copied()),
            Sabotage::ChangesValues if self.is_reopened => {
                entries.iter_mut().for_each(|e| e.value ^= 1);
            }
            Sabotage::MixesTenants if self.is_reopened => {
                let other = TenantId::new("tenant-0")?;
                *entries = self.inner.ask(&other, range).await?.entries;
            }
            Sabotage::SwallowsWarnings => answer.warnings.clear(),
            Sabotage::ForgetsAfterFailedFlush if has_failed => drop(entries.pop()),
            Sabotage::NeverHeals if has_failed => answer.warnings.push("was broken once".into()),
            Sabotage::AnswersInternal if !answer.warnings.is_empty() => {
                return Err(Error::Internal("a block could not be read".into()));
            }
            _ => {}
        }
        Ok(answer)
    }

    async fn flush(&self) -> Result<()> {
        self.is_flushing.store(true, Ordering::SeqCst);
        let _flushing = Flushing(&self.is_flushing);
        let flushed = self.inner.flush().await;
        if flushed.is_err() {
            self.has_failed.store(true, Ordering::SeqCst);
        }
        flushed
    }

    async fn keep_house(&self) -> Result<()> {
        self.inner.keep_house().await
    }

    async fn checkpoint(&self) -> Result<()> {
        if self.is(Sabotage::RemovesBeforeItWrites) {
            for name in self.ground.disk.list("log").unwrap_or_default() {
                let _ = self.ground.disk.remove(&format!("log/{name}"));
            }
        }
        self.inner.checkpoint().await
    }

    async fn close(&self) -> Result<()> {
        let held = std::mem::take(&mut *self.held.lock().unwrap());
        for (tenant, entries) in held {
            self.inner.push(&tenant, &entries).await?;
        }
        self.inner.close().await
    }
}

/// Seeds that each sabotage has to be found by; the store without one passes all of them.
const SEEDS: std::ops::Range<u64> = 0..40;

async fn motion(how: Sabotage, seed: u64) -> Result<MotionReport, Violation> {
    let settings = SuiteSettings::default();
    in_motion(&opener(how), &settings, Turns::BySeed, seed).await
}

async fn found_in_motion(how: Sabotage, told: &str) {
    for seed in SEEDS {
        if let Err(violation) = motion(how, seed).await {
            let text = violation.to_string();
            assert!(violation.what.contains(told), "{how:?}: {text}");
            assert!(text.starts_with(&format!("seed {seed}: ")), "{text}");
            return;
        }
    }
    panic!("{how:?} is not found");
}

#[tokio::test]
async fn the_reference_store_keeps_every_promise_in_motion() {
    let mut sum = MotionReport::default();
    for seed in SEEDS {
        let report = motion(Sabotage::Nothing, seed).await;
        let report = report.unwrap_or_else(|v| panic!("{v}"));
        sum.acknowledged += report.acknowledged;
        sum.answers += report.answers;
        sum.kills += report.kills;
        sum.power_losses += report.power_losses;
        sum.stops += report.stops;
    }
    let seeds = SEEDS.count() as u64;
    assert!(sum.acknowledged > 50 * seeds, "{sum:?}");
    assert!(sum.answers.whole > 20 * seeds, "{sum:?}");
    assert!(
        sum.kills.min(sum.power_losses).min(sum.stops) > seeds / 4,
        "{sum:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_reference_store_keeps_every_promise_on_many_threads() {
    for seed in SEEDS {
        let settings = SuiteSettings::default();
        let how = opener(Sabotage::Nothing);
        let report = in_motion(&how, &settings, Turns::ByMachine, seed).await;
        assert!(report.unwrap_or_else(|v| panic!("{v}")).answers.whole > 0);
    }
}

#[tokio::test]
async fn a_seed_repeats_what_happened() {
    let first = motion(Sabotage::Nothing, 3).await.unwrap();
    assert_eq!(first, motion(Sabotage::Nothing, 3).await.unwrap());
    let violation = async |seed| motion(Sabotage::HidesDuringFlush, seed).await.err();
    let mut failed = 0;
    for seed in SEEDS {
        let (one, other) = (violation(seed).await, violation(seed).await);
        failed += u32::from(one.is_some());
        assert_eq!(one.map(|v| v.to_string()), other.map(|v| v.to_string()));
    }
    assert!(failed > 0);
}

#[tokio::test]
async fn what_is_lost_at_a_restart_is_found() {
    found_in_motion(Sabotage::ForgetsAtRestart, "missing from an answer").await;
}

#[tokio::test]
async fn what_a_flush_hides_is_found() {
    found_in_motion(Sabotage::HidesDuringFlush, "missing from an answer").await;
}

#[tokio::test]
async fn what_is_answered_twice_is_found() {
    found_in_motion(Sabotage::AnswersTwice, "twice").await;
}

#[tokio::test]
async fn an_answer_with_anothers_entries_is_found() {
    found_in_motion(Sabotage::MixesTenants, "never pushed to tenant 1").await;
}

#[tokio::test]
async fn a_changed_value_is_found() {
    found_in_motion(Sabotage::ChangesValues, "was pushed with value").await;
}

#[tokio::test]
async fn an_acknowledgement_before_the_log_is_found() {
    found_in_motion(Sabotage::AcknowledgesUnlogged, "missing from an answer").await;
}

#[tokio::test]
async fn an_acknowledged_repeat_that_is_not_logged_is_found() {
    let told = "missing from an answer";
    found_in_motion(Sabotage::AcknowledgesTheRepeatUnlogged, told).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_found() {
    found_in_motion(Sabotage::Hangs, "nothing moves").await;
}

async fn at_crash_points(how: Sabotage) -> Result<CrashPointReport, Violation> {
    crash_points(&opener(how), &SuiteSettings::default(), 1, 1, 1).await
}

#[tokio::test]
async fn the_reference_store_survives_a_crash_at_every_operation() {
    let report = at_crash_points(Sabotage::Nothing).await;
    let report = report.unwrap_or_else(|v| panic!("{v}"));
    assert!(
        report.points > 40 && report.reopened == 4 * report.points,
        "{report:?}"
    );
    assert!(report.acknowledged > 10 * report.reopened, "{report:?}");
}

#[tokio::test]
async fn a_log_that_is_gone_for_a_moment_is_found() {
    let found = at_crash_points(Sabotage::RemovesBeforeItWrites).await;
    let what = found.unwrap_err().what;
    assert!(what.contains("missing from an answer"), "{what}");
}

#[tokio::test]
async fn a_log_that_is_not_synced_is_found() {
    let found = at_crash_points(Sabotage::PromisesPowerLoss).await;
    let what = found.unwrap_err().what;
    assert!(what.contains("missing from an answer"), "{what}");
    // Without the promise it is right.
    let honest = ModelOpener { durable: false };
    let report = crash_points(&honest, &SuiteSettings::default(), 1, 3, 1).await;
    report.unwrap_or_else(|v| panic!("{v}"));
}

async fn with_faults(how: Sabotage, fault: StoreFault) -> Result<StoreFaultReport, Violation> {
    store_faults(&opener(how), &SuiteSettings::default(), fault, 2, 1).await
}

#[tokio::test]
async fn the_reference_store_lives_with_every_fault_of_its_objects() {
    use StoreFault::{Denied, FlippedBit, LostAck, Reset};
    for fault in [Reset, LostAck, Denied, FlippedBit] {
        let report = with_faults(Sabotage::Nothing, fault).await;
        let report = report.unwrap_or_else(|v| panic!("{v}"));
        assert!(
            report.faults > 10 && report.answers.warned > 0,
            "{report:?}"
        );
    }
    let settings = SuiteSettings::default();
    let away = store_away_at_start(&opener(Sabotage::Nothing), &settings, 1).await;
    let away = away.unwrap_or_else(|v| panic!("{v}"));
    assert!(
        away.answers.warned > 0 && away.answers.whole > 0,
        "{away:?}"
    );
}

async fn found_with_faults(how: Sabotage, told: &str) {
    let violation = with_faults(how, StoreFault::Reset).await.unwrap_err();
    assert!(violation.what.contains(told), "{how:?}: {violation}");
}

#[tokio::test]
async fn a_swallowed_warning_is_found() {
    found_with_faults(Sabotage::SwallowsWarnings, "without a warning").await;
}

#[tokio::test]
async fn what_a_failed_flush_loses_is_found() {
    found_with_faults(Sabotage::ForgetsAfterFailedFlush, "missing from an answer").await;
}

#[tokio::test]
async fn a_fault_that_is_never_forgotten_is_found() {
    found_with_faults(Sabotage::NeverHeals, "warnings where nothing is in the way").await;
}

#[tokio::test]
async fn an_error_that_is_no_answer_is_found() {
    found_with_faults(Sabotage::AnswersInternal, "failed with Internal").await;
}

#[tokio::test]
async fn a_store_that_needs_its_objects_to_start_is_found() {
    let how = opener(Sabotage::NeedsObjectsToStart);
    let found = store_away_at_start(&how, &SuiteSettings::default(), 1).await;
    let what = found.unwrap_err().what;
    assert!(what.contains("does not open"), "{what}");
}
