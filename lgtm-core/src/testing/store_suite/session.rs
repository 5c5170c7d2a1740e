//! One life of a store, from its opening to its end, with the ledger over all lives.

use std::sync::Arc;

use super::interleave::{Interleaved, abandoned_after};
use super::ledger::{Demand, Ledger, Violation};
use super::settings::SuiteSettings;
use super::store::{Entry, Ground, StoreOpener, StoreUnderTest};
use crate::clock::Clock;
use crate::error::Result;
use crate::exec::CancelToken;
use crate::model::{TenantId, TimeRange};
use crate::testing::Dice;

/// A verb is dropped unfinished once in so many times.
const ABANDONED: u64 = 12;
/// Awaits until a client that goes away has gone.
const PATIENCE: u64 = 40;

/// A store that is open, and what is known of it.
pub(super) struct Session<S> {
    pub(super) store: Arc<S>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) ground: Ground,
    pub(super) settings: SuiteSettings,
    tenants: Arc<Vec<TenantId>>,
}

impl<S> Clone for Session<S> {
    /// The same store, for another who drives it.
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            ledger: self.ledger.clone(),
            ground: self.ground.clone(),
            settings: self.settings.clone(),
            tenants: self.tenants.clone(),
        }
    }
}

impl<S: StoreUnderTest> Session<S> {
    /// A store that was just opened.
    pub(super) fn of(
        store: S,
        ground: Ground,
        ledger: Arc<Ledger>,
        settings: &SuiteSettings,
    ) -> Self {
        let name = |n| TenantId::new(&format!("tenant-{n}")).expect("a plain name");
        Self {
            store: Arc::new(store),
            ledger,
            ground,
            settings: settings.clone(),
            tenants: Arc::new((0..settings.tenants).map(name).collect()),
        }
    }

    /// Opens a store and lets it recover, asking it meanwhile.
    ///
    /// # Errors
    /// The violation, when the store does not open or an answer on the way was wrong.
    pub(super) async fn open<O: StoreOpener<Store = S>>(
        opener: &O,
        mut ground: Ground,
        ledger: Arc<Ledger>,
        settings: &SuiteSettings,
        dice: &mut Dice,
    ) -> Result<Self, Violation> {
        ground.seed = dice.next_u64();
        let store = match opener.open(&ground).await {
            Ok(store) => store,
            Err(e) => {
                ledger.fail(format!("the store does not open: {e}"));
                ledger.verdict()?;
                unreachable!("a failed ledger has a verdict");
            }
        };
        let session = Self::of(store, ground, ledger, settings);
        session.ledger.note("opened");
        let (recovering, asking) = (session.clone(), session.clone());
        let recover = async move {
            match recovering.store.recover().await {
                Ok(()) => recovering.ledger.note("recovered"),
                Err(e) => recovering
                    .ledger
                    .fail(format!("the store does not recover: {e}")),
            }
        };
        let ask = async move {
            asking.ask_everything(Demand::Honest).await;
            asking.ask_everything(Demand::Honest).await;
        };
        let actors: Vec<super::interleave::Actor> = vec![Box::pin(recover), Box::pin(ask)];
        Interleaved::new(actors, dice.fork(), CancelToken::new()).await;
        session.ledger.verdict()?;
        Ok(session)
    }

    /// Ends this life. Whoever else drove the store must be gone.
    pub(super) fn end(self) {
        self.ledger.note("gone");
        drop(self.store);
    }

    pub(super) fn is_over(&self) -> bool {
        self.ledger.has_failed() || self.ground.disk.is_stopped()
    }

    /// New entries of a writer for some tenant: most of them of now, some late. Moves the clock.
    pub(super) fn new_entries(&self, writer: u32, dice: &mut Dice) -> (usize, Vec<Entry>) {
        let s = &self.settings;
        let tenant = dice.below(s.tenants as u64) as usize;
        let step = dice.below(s.step_ms + 1);
        self.ground
            .clock
            .advance(std::time::Duration::from_millis(step));
        let now_ms = self.ground.clock.now_ms();
        let mut entries = Vec::new();
        for _ in 0..=dice.below(s.entries) {
            let behind = if dice.once_in(10) { s.late_ms } else { 2_000 };
            entries.push(Entry {
                stream: writer * s.streams + dice.below(u64::from(s.streams)) as u32,
                time_ms: now_ms - dice.below(behind + 1) as i64,
                value: dice.next_u64() >> 11,
            });
        }
        self.ledger.propose(tenant, &mut entries);
        (tenant, entries)
    }

    /// Pushes entries that were proposed; true when they were acknowledged.
    pub(super) async fn push(&self, tenant: usize, entries: &[Entry]) -> bool {
        let result = self.store.push(&self.tenants[tenant], entries).await;
        self.ledger.pushed(tenant, entries, &result);
        result.is_ok()
    }

    /// Asks for one tenant's entries in a range, and checks the answer.
    pub(super) async fn ask(&self, tenant: usize, range: TimeRange, demand: Demand) {
        let question = self.ledger.question(tenant, range);
        let answer = self.store.ask(&self.tenants[tenant], range).await;
        self.ledger.check(&question, &answer, demand);
    }

    /// Asks for everything of every tenant.
    pub(super) async fn ask_everything(&self, demand: Demand) {
        for tenant in 0..self.tenants.len() {
            self.ask(tenant, self.all_times(), demand).await;
        }
    }

    /// Everything that was ever pushed lies in it.
    pub(super) fn all_times(&self) -> TimeRange {
        let now_ms = self.ground.clock.now_ms();
        let day = 24 * 3_600_000;
        TimeRange::new(now_ms - 7 * day, now_ms + day)
    }

    /// A range that many entries lie in and many do not.
    pub(super) fn some_times(&self, dice: &mut Dice) -> TimeRange {
        let now_ms = self.ground.clock.now_ms();
        let wide = 10 * self.settings.step_ms.max(1);
        let from_ms = now_ms - dice.below(wide) as i64;
        TimeRange::new(from_ms, from_ms + dice.below(wide) as i64 + 1)
    }

    /// Flushes, and holds the store to what that says.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn flush(&self) -> Result<()> {
        let began = self.ledger.now();
        self.ledger.note("flush begins");
        let flushed = self.store.flush().await;
        self.ledger.note(format_args!("flush ends: {flushed:?}"));
        if flushed.is_ok() {
            self.ledger.flushed(began);
        }
        flushed
    }

    /// # Errors
    /// Those of the store.
    pub(super) async fn keep_house(&self) -> Result<()> {
        self.ledger.note("house keeping begins");
        let kept = self.store.keep_house().await;
        self.ledger
            .note(format_args!("house keeping ends: {kept:?}"));
        kept
    }

    /// # Errors
    /// Those of the store.
    pub(super) async fn checkpoint(&self) -> Result<()> {
        self.ledger.note("checkpoint begins");
        let done = self.store.checkpoint().await;
        self.ledger.note(format_args!("checkpoint ends: {done:?}"));
        done
    }

    /// Does what a verb says, or a part of it: clients go away.
    pub(super) async fn with_patience<T>(
        &self,
        dice: &mut Dice,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        if !dice.once_in(ABANDONED) {
            return Some(work.await);
        }
        let done = abandoned_after(1 + dice.below(PATIENCE), work).await;
        if done.is_none() {
            self.ledger.note("abandoned");
        }
        done
    }

    /// What must succeed when nothing is in the way.
    pub(super) fn demand_ok(&self, what: &str, result: Result<()>) {
        if let Err(e) = result {
            self.ledger
                .fail(format!("{what} failed where nothing is in the way: {e}"));
        }
    }
}
