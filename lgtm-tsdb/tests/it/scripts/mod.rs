//! Runs PromQL test scripts (`load`, `eval`, `expect`), the little language of Prometheus' own engine tests, on any store.

mod backend;
mod compare;
mod load;
mod run;
mod script;

pub(crate) use backend::Backend;
pub(crate) use run::run_file;
