//! Public trouble reports about Tempo, each as a test. The letters and numbers are those of the list that they were collected in.
//!
//! Most are asked of a store in every state that spans go through: live, in a block, in several, in joined ones. All must say the same.

#![cfg(feature = "http")]

mod house;
mod metrics;
mod search;
mod stored;
mod streams;
mod tags;
mod traces;
