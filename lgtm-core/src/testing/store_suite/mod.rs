//! What every store must keep to, whatever it stores: nothing that it acknowledged is lost, nothing is hidden, and an answer that is not
//! whole says so.
//!
//! ```text
//!            dice of a seed                         ledger: all that was pushed and acknowledged
//!                 |                                      ^                  |
//!   writers, readers, flushes,  ---- verbs ---->   StoreUnderTest ----> answers are held against it
//!   checkpoints, crashes, faults                         |
//!                 |                                      v
//!                 +------------------------->  Ground: CrashDisk, FaultyStore, ManualClock
//! ```
//!
//! A store is run through it by two small traits: [`StoreOpener`] opens it over a [`Ground`] (a disk that can crash, an object store that
//! can fail, a clock that stands still), [`StoreUnderTest`] pushes an [`Entry`] as whatever the store holds and finds it again. Then
//!
//! * [`in_motion`] does everything at once, restarts in the middle of it among them, for one seed: run it for hundreds;
//! * [`crash_points`] stops the disk at each of its operations and opens what the crash left;
//! * [`store_faults`] lets each request to the object store fail, [`store_away_at_start`] all of them while the store starts;
//! * [`worst_latency`], [`cost_to_others`] and [`back_to_zero`] measure what requests that mean harm do to others: put them to the door of a
//!   store within the test's process.
//!
//! All but the last give a report of what happened, by which a test sees that something did, or the [`Violation`] with its seed and the
//! events before it. A violation is the store's fault: each of the checks is shown, in the suite's own tests, to pass on a store that
//! keeps its promises ([`ModelStore`]) and to fail when that is made to break them. A store that has background work which none of its
//! verbs does is not tested by this: let [`StoreUnderTest::keep_house`] do a round of it.
//!
//! ```
//! use lgtm_core::testing::store_suite::{ModelOpener, SuiteSettings, Turns, in_motion};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
//! # runtime.block_on(async {
//! let (opener, settings) = (ModelOpener { durable: true }, SuiteSettings::default());
//! for seed in 0..5 {
//!     let report = in_motion(&opener, &settings, Turns::BySeed, seed).await?;
//!     assert!(report.answers.whole > 0);
//! }
//! # Ok::<(), lgtm_core::testing::store_suite::Violation>(())
//! # })?;
//! # Ok::<(), lgtm_core::testing::store_suite::Violation>(())
//! ```

mod crash_points;
mod interleave;
mod ledger;
mod model;
mod motion;
mod probe;
mod session;
mod settings;
mod store;
mod store_faults;
#[cfg(test)]
mod tests;

pub use crash_points::{CrashPointReport, crash_points};
pub use ledger::{AnswerCounts, Violation};
pub use model::{ModelOpener, ModelStore};
pub use motion::{MotionReport, Turns, in_motion};
pub use probe::{back_to_zero, cost_to_others, resident_bytes, worst_latency};
pub use settings::SuiteSettings;
pub use store::{Answer, Entry, Ground, StoreOpener, StoreUnderTest};
pub use store_faults::{StoreFaultReport, store_away_at_start, store_faults};
