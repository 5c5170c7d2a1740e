//! A crash at every operation of the disk.

use std::sync::Arc;

use super::ledger::{Demand, Ledger, Violation};
use super::session::Session;
use super::settings::SuiteSettings;
use super::store::{Ground, StoreOpener, StoreUnderTest};
use crate::testing::{Crash, Dice};

/// Power losses by dice that each crash point is tried with, beside the strict one and the death of the process.
const POWER_LOSSES: u64 = 2;

/// Steps of the life that is interrupted: after each some pushes, and after most of them something that moves what was pushed.
const STEPS: u32 = 10;

/// What happened, so that a test can tell that something did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CrashPointReport {
    /// Operations of the disk at which a crash was tried.
    pub points: u64,
    /// Disks that a crash left and from which the store was opened again.
    pub reopened: u64,
    /// Entries acknowledged, over all of them.
    pub acknowledged: u64,
}

/// Stops the disk at every `stride`-th of its operations from `first` on (counted from 1) in a life of pushes, a checkpoint, a flush and
/// house keeping; opens the store from what the death of the process and several power losses leave, crashes it once more while it
/// recovers, and asks for everything.
///
/// After the death of a process everything is there that was acknowledged; after a power loss all of it, or where the opener does not
/// promise that, what was in the object store.
///
/// # Errors
/// The first promise that the store broke.
pub async fn crash_points<O: StoreOpener>(
    opener: &O,
    settings: &SuiteSettings,
    first: u64,
    stride: u64,
    seed: u64,
) -> Result<CrashPointReport, Violation> {
    let mut report = CrashPointReport::default();
    let mut point = first.max(1);
    loop {
        let mut reached = false;
        for crash in crashes(seed) {
            let ledger = Arc::new(Ledger::new(seed));
            let ground = Ground::new(seed);
            ground.disk.stop_at(point);
            ledger.note(format_args!("disk stops at operation {point}"));
            let mut dice = Dice::seeded(seed);
            reached = cycle(opener, &ground, &ledger, settings, &mut dice).await?;
            if !reached {
                break;
            }
            after(opener, ground, &ledger, settings, crash, &mut dice).await?;
            report.reopened += 1;
            report.acknowledged += ledger.acknowledged();
        }
        if !reached {
            return Ok(report);
        }
        report.points += 1;
        point += stride.max(1);
    }
}

fn crashes(seed: u64) -> Vec<Crash> {
    let by_dice = (0..POWER_LOSSES).map(|n| Crash::Power(seed.wrapping_add(n)));
    [Crash::Process, Crash::PowerStrict]
        .into_iter()
        .chain(by_dice)
        .collect()
}

/// The life in which the crash happens; whether it did.
async fn cycle<O: StoreOpener>(
    opener: &O,
    ground: &Ground,
    ledger: &Arc<Ledger>,
    settings: &SuiteSettings,
    dice: &mut Dice,
) -> Result<bool, Violation> {
    // A store that the disk stops while it opens may say so.
    let Ok(store) = opener.open(ground).await else {
        return if ground.disk.is_stopped() {
            Ok(true)
        } else {
            refused(ledger)
        };
    };
    let session = Session::of(store, ground.clone(), ledger.clone(), settings);
    if let Err(e) = session.store.recover().await
        && !ground.disk.is_stopped()
    {
        session
            .ledger
            .fail(format!("the store does not recover: {e}"));
    }
    for step in 0..STEPS {
        for writer in 0..settings.writers {
            let (tenant, entries) = session.new_entries(writer, dice);
            session.push(tenant, &entries).await;
        }
        // What fails, fails since the disk stops.
        let _ = match step {
            1 | 7 => session.checkpoint().await,
            3 | 8 => session.flush().await,
            5 => session.keep_house().await,
            _ => Ok(()),
        };
        if ground.disk.is_stopped() {
            break;
        }
    }
    ledger.verdict()?;
    Ok(ground.disk.is_stopped())
}

fn refused(ledger: &Ledger) -> Result<bool, Violation> {
    ledger.fail("the store does not open on an empty ground".into());
    ledger.verdict().map(|()| false)
}

/// What the next processes find.
async fn after<O: StoreOpener>(
    opener: &O,
    ground: Ground,
    ledger: &Arc<Ledger>,
    settings: &SuiteSettings,
    crash: Crash,
    dice: &mut Dice,
) -> Result<(), Violation> {
    ledger.note(format_args!("{crash:?}:\n{}", ground.disk.history()));
    if crash != Crash::Process && !opener.survives_power_loss() {
        ledger.forgive_unstored();
    }
    let ground = ground.crash(crash);
    // The second process dies while it recovers.
    ground.disk.stop_at(1 + dice.below(8));
    if let Ok(store) = opener.open(&ground).await {
        let _ = store.recover().await;
    }
    ledger.note("died while it recovered");
    let ground = ground.crash(Crash::Process);
    let session = Session::open(opener, ground, ledger.clone(), settings, dice).await?;
    session.ask_everything(Demand::Whole).await;
    let (tenant, entries) = session.new_entries(0, dice);
    if !session.push(tenant, &entries).await && !entries.is_empty() {
        ledger.fail("the store takes no entries after a crash".into());
    }
    session.demand_ok("flush", session.flush().await);
    session.ask_everything(Demand::Whole).await;
    session.end();
    ledger.verdict()
}
