//! Every request to the object store fails once.

use std::sync::Arc;
use std::time::Duration;

use super::ledger::{AnswerCounts, Demand, Ledger, Violation};
use super::session::Session;
use super::settings::SuiteSettings;
use super::store::{Ground, StoreOpener, StoreUnderTest};
use crate::testing::{Crash, Dice, FaultPlan, StoreFault};

/// How long after a fault everything must be whole again, in the clock that the suite moves, if the house is kept.
const HEALING: Duration = Duration::from_secs(3600);

/// What happened, so that a test can tell that something did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreFaultReport {
    /// Faults that were tried.
    pub faults: u64,
    /// Answers, by kind.
    pub answers: AnswerCounts,
}

/// Lets requests of the object store fail, from the `N`th on `burst` in a row, for every `N` of a life of pushes, flushes, house keeping
/// and questions. A burst longer than the store's own repeats is a failure that it sees.
///
/// Meanwhile answers are whole or say that they are not, pushes go on, and nothing that was acknowledged is lost by it; afterwards, when
/// the house has been kept for an hour of the clock, all is whole again, after a restart too.
///
/// # Errors
/// The first promise that the store broke.
pub async fn store_faults<O: StoreOpener>(
    opener: &O,
    settings: &SuiteSettings,
    fault: StoreFault,
    burst: u64,
    seed: u64,
) -> Result<StoreFaultReport, Violation> {
    let mut report = StoreFaultReport::default();
    let demand = match fault {
        StoreFault::Denied => Demand::HonestIfRefused,
        _ => Demand::Honest,
    };
    for nth in 1.. {
        let ledger = Arc::new(Ledger::new(seed));
        ledger.note(format_args!(
            "{fault:?} from request {nth} on, {burst} in a row"
        ));
        let ground = Ground::new(seed);
        ground.objects.fail_numbers(nth..nth + burst, fault);
        let mut dice = Dice::seeded(seed);
        let session =
            Session::open(opener, ground.clone(), ledger.clone(), settings, &mut dice).await?;
        for step in 0..4 {
            push_some(&session, &mut dice).await;
            // Failing is allowed here; what they say is in the history.
            let _ = match step % 2 {
                0 => session.flush().await,
                _ => session.keep_house().await,
            };
            session.ask_everything(demand).await;
        }
        let reached = ground.objects.all_requests() >= nth;
        ground.objects.heal();
        becomes_whole(opener, session, &mut dice).await?;
        report.answers += ledger.answers();
        if !reached {
            break;
        }
        report.faults += 1;
    }
    Ok(report)
}

/// Starts the store while its object store does not answer, with entries in the log and others in the object store.
///
/// It starts, takes entries, answers with what it has and a warning (or says `Unavailable`), and is whole when the object store is back.
///
/// # Errors
/// The first promise that the store broke.
pub async fn store_away_at_start<O: StoreOpener>(
    opener: &O,
    settings: &SuiteSettings,
    seed: u64,
) -> Result<StoreFaultReport, Violation> {
    let ledger = Arc::new(Ledger::new(seed));
    let mut dice = Dice::seeded(seed);
    let ground = Ground::new(seed);
    let session = Session::open(opener, ground, ledger.clone(), settings, &mut dice).await?;
    push_some(&session, &mut dice).await;
    session.demand_ok("flush", session.flush().await);
    push_some(&session, &mut dice).await;
    let ground = session.ground.crash(Crash::Process);
    session.end();

    ground.objects.set_plan(FaultPlan {
        reset: 1.0,
        ..FaultPlan::default()
    });
    ledger.note("the object store is away");
    let session =
        Session::open(opener, ground.clone(), ledger.clone(), settings, &mut dice).await?;
    push_some(&session, &mut dice).await;
    session.ask_everything(Demand::Honest).await;
    let _ = session.keep_house().await;
    let _ = session.flush().await;
    session.ask_everything(Demand::Honest).await;
    ground.objects.heal();
    becomes_whole(opener, session, &mut dice).await?;
    Ok(StoreFaultReport {
        faults: 1,
        answers: ledger.answers(),
    })
}

/// Pushes that must be taken: no object store is needed for that.
async fn push_some<S: StoreUnderTest>(session: &Session<S>, dice: &mut Dice) {
    let mut taken = 0;
    for writer in 0..session.settings.writers {
        for _ in 0..4 {
            let (tenant, entries) = session.new_entries(writer, dice);
            taken += u32::from(session.push(tenant, &entries).await);
        }
    }
    if taken == 0 {
        session
            .ledger
            .fail("no push is taken while the object store has a fault".into());
    }
}

/// Nothing is in the way any more: after some rounds of house keeping everything is there, and after a restart too.
async fn becomes_whole<O: StoreOpener>(
    opener: &O,
    session: Session<O::Store>,
    dice: &mut Dice,
) -> Result<(), Violation> {
    let ledger = session.ledger.clone();
    ledger.note("the object store is well again");
    for _ in 0..2 {
        session.ground.clock.advance(HEALING / 2);
        let _ = session.keep_house().await;
    }
    session.ask_everything(Demand::Whole).await;
    session.demand_ok("house keeping", session.keep_house().await);
    session.demand_ok("flush", session.flush().await);
    session.ask_everything(Demand::Whole).await;
    let (ground, settings) = (
        session.ground.crash(Crash::Process),
        session.settings.clone(),
    );
    session.end();
    ledger.verdict()?;
    let session = Session::open(opener, ground, ledger.clone(), &settings, dice).await?;
    session.ask_everything(Demand::Whole).await;
    session.end();
    ledger.verdict()
}
