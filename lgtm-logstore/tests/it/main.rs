//! The integration tests of this crate, as one program: linking is most of what a test program costs.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what serves tests only is a test, and says what it leaves out"
)]

mod deletes;
#[cfg(feature = "http")]
mod door;
mod drilldown_answers;
mod embed;
mod frontend_house;
mod golden_answers;
mod golden_buckets;
mod golden_chunks;
mod golden_index;
mod golden_push;
mod golden_side_object;
mod http_api;
mod http_faults;
mod http_hostile;
mod http_pushes;
mod http_tail;
mod http_tenants;
mod index_damage;
mod logql_conformance;
mod logql_cuts;
mod logql_engine;
mod logql_frontend;
mod object_budget;
mod object_count;
mod over_engine;
mod recent;
mod report_house;
mod reports_push;
mod reports_query;
mod runtime_threads;
mod shared;
mod side_files;
mod simulated_month;
