//! Public trouble reports about Tempo, each as a test. The letters and numbers are those of the list that they were collected in.
//!
//! Most are asked of a store in every state that spans go through: live, in a block, in several, in joined ones. All must say the same.

#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "what serves tests only is a test")]
#![allow(clippy::print_stdout, reason = "a test says what it leaves out")]

#[path = "../door/mod.rs"]
mod door;
mod house;
mod metrics;
#[path = "../otlp_json/mod.rs"]
mod otlp_json;
mod search;
#[path = "../shared/mod.rs"]
mod shared;
mod stored;
mod streams;
mod tags;
mod traces;
