//! Everything at once.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::interleave::{Actor, Interleaved};
use super::ledger::{AnswerCounts, Demand, Ledger, Violation};
use super::session::Session;
use super::settings::SuiteSettings;
use super::store::{Entry, Ground, StoreOpener, StoreUnderTest};
use crate::error::Result;
use crate::exec::{CancelToken, TaskGroup};
use crate::testing::give_way::give_way;
use crate::testing::{Crash, Dice, FaultPlan};

/// A seed that takes longer than this has a deadlock in it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Awaits of an object store's request, at most: where others get their turn.
const PAUSES: u32 = 6;

/// Who decides what happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turns {
    /// The seed, at every await: everything runs in one task. A seed repeats what happened, as far as the store has no threads of its own.
    BySeed,
    /// The machine: each writer, reader and keeper is a task of the runtime. Finds what goes wrong between two awaits; run it on a runtime
    /// with several threads.
    ByMachine,
}

/// What happened, so that a test can tell that something did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MotionReport {
    /// Entries acknowledged.
    pub acknowledged: u64,
    /// Answers, by kind.
    pub answers: AnswerCounts,
    /// Times that the process was killed.
    pub kills: u64,
    /// Times that the power went.
    pub power_losses: u64,
    /// Orderly ends.
    pub stops: u64,
}

/// Writers, readers, flushes, checkpoints, house keeping and clients that go away, all at once, in several lives that end in order, by
/// `kill -9` or by a power loss in the middle of everything.
///
/// Every answer is held against every acknowledgement: what was acknowledged before the question is in it exactly once, or it has a
/// warning; nothing is in it that was not pushed. After each restart, and at the end, with nothing in the way, answers are whole.
///
/// # Errors
/// The first promise that the store broke.
pub async fn in_motion<O: StoreOpener>(
    opener: &O,
    settings: &SuiteSettings,
    turns: Turns,
    seed: u64,
) -> Result<MotionReport, Violation> {
    let ledger = Arc::new(Ledger::new(seed));
    let run = run(opener, settings, turns, seed, ledger.clone());
    if let Ok(done) = tokio::time::timeout(PATIENCE, run).await {
        return done;
    }
    ledger.fail(format!("nothing moves for {PATIENCE:?}"));
    ledger.verdict().map(|()| MotionReport::default())
}

async fn run<O: StoreOpener>(
    opener: &O,
    settings: &SuiteSettings,
    turns: Turns,
    seed: u64,
    ledger: Arc<Ledger>,
) -> Result<MotionReport, Violation> {
    let mut dice = Dice::seeded(seed);
    let mut report = MotionReport::default();
    let mut ground = Ground::new(seed);
    for _ in 0..settings.rounds {
        ground.objects.set_plan(FaultPlan {
            pauses: PAUSES,
            ..FaultPlan::default()
        });
        let session = Session::open(opener, ground, ledger.clone(), settings, &mut dice).await?;
        session.ask_everything(Demand::Whole).await;
        let end = match dice.below(4) {
            0 => None,
            1 => Some(Crash::Power(dice.next_u64())),
            _ => Some(Crash::Process),
        };
        ground = live(&session, turns, end, &mut dice).await;
        ledger.verdict()?;
        match end {
            None => report.stops += 1,
            Some(Crash::Process) => report.kills += 1,
            Some(_) => {
                report.power_losses += 1;
                if !opener.survives_power_loss() {
                    ledger.forgive_unstored();
                }
            }
        }
        session.end();
    }
    let session = Session::open(opener, ground, ledger.clone(), settings, &mut dice).await?;
    session.ask_everything(Demand::Whole).await;
    session.demand_ok("flush", session.flush().await);
    session.demand_ok("house keeping", session.keep_house().await);
    session.ask_everything(Demand::Whole).await;
    session.demand_ok("close", session.store.close().await);
    session.end();
    ledger.verdict()?;
    report.acknowledged = ledger.acknowledged();
    report.answers = ledger.answers();
    Ok(report)
}

/// One life. Gives the ground for the next.
async fn live<S: StoreUnderTest>(
    session: &Session<S>,
    turns: Turns,
    end: Option<Crash>,
    dice: &mut Dice,
) -> Ground {
    let (s, stop) = (&session.settings, CancelToken::new());
    let next = Arc::new(Mutex::new(None));
    let mut actors: Vec<Actor> = Vec::new();
    for writer in 0..s.writers {
        actors.push(Box::pin(write(session.clone(), writer, dice.fork())));
    }
    for _ in 0..s.readers {
        actors.push(Box::pin(read(session.clone(), dice.fork())));
    }
    for _ in 0..2 {
        actors.push(Box::pin(keep(session.clone(), dice.fork())));
    }
    if let Some(crash) = end {
        // About as many awaits as a life has, so that most ends come in the middle of something.
        let polls = dice.below(u64::from(s.steps) * 40);
        let (session, stop, next) = (session.clone(), stop.clone(), next.clone());
        actors.push(Box::pin(async move {
            for _ in 0..polls {
                give_way().await;
            }
            *next.lock() = Some(session.ground.crash(crash));
            session.ledger.note(format_args!("{crash:?}"));
            stop.cancel();
        }));
    }
    match turns {
        Turns::BySeed => Interleaved::new(actors, dice.fork(), stop).await,
        Turns::ByMachine => {
            if let Err(e) = side_by_side(actors, &stop).await {
                session.ledger.fail(e.to_string());
            }
        }
    }
    if let Some(ground) = next.lock().take() {
        return ground;
    }
    session.demand_ok("close", session.store.close().await);
    session.ground.clone()
}

/// # Errors
/// When an actor panicked, or the store below it.
async fn side_by_side(actors: Vec<Actor>, stop: &CancelToken) -> Result<()> {
    let group = TaskGroup::new(Handle::current());
    for actor in actors {
        let stop = stop.clone();
        group.spawn("a part of the suite", async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = actor => {}
            }
        });
    }
    group.join().await
}

async fn write<S: StoreUnderTest>(session: Session<S>, writer: u32, mut dice: Dice) {
    let mut unsure: Vec<(usize, Vec<Entry>)> = Vec::new();
    for _ in 0..session.settings.steps {
        if session.is_over() {
            return;
        }
        // A client sends again what was not acknowledged.
        let again = if dice.once_in(2) { unsure.pop() } else { None };
        let (tenant, entries) = again.unwrap_or_else(|| session.new_entries(writer, &mut dice));
        let pushed = session.push(tenant, &entries);
        if session.with_patience(&mut dice, pushed).await != Some(true) {
            unsure.push((tenant, entries));
        }
        pause(&mut dice).await;
    }
}

async fn read<S: StoreUnderTest>(session: Session<S>, mut dice: Dice) {
    for _ in 0..session.settings.steps {
        if session.is_over() {
            return;
        }
        let tenant = dice.below(session.settings.tenants as u64) as usize;
        let range = if dice.once_in(3) {
            session.some_times(&mut dice)
        } else {
            session.all_times()
        };
        let asked = session.ask(tenant, range, Demand::Honest);
        session.with_patience(&mut dice, asked).await;
        pause(&mut dice).await;
    }
}

async fn keep<S: StoreUnderTest>(session: Session<S>, mut dice: Dice) {
    for _ in 0..session.settings.steps {
        if session.is_over() {
            return;
        }
        // What fails here is in the history; at the end nothing may fail.
        match dice.below(4) {
            0 => drop(session.with_patience(&mut dice, session.flush()).await),
            1 => drop(session.with_patience(&mut dice, session.checkpoint()).await),
            2 => drop(session.with_patience(&mut dice, session.keep_house()).await),
            _ => pause(&mut dice).await,
        }
        pause(&mut dice).await;
    }
}

/// Lets others go first.
async fn pause(dice: &mut Dice) {
    for _ in 0..dice.below(8) {
        give_way().await;
    }
}
