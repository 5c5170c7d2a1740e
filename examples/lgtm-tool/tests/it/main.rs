//! The integration tests of this crate, as one program: linking is most of what a test program costs.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what serves tests only is a test, and says what it leaves out"
)]

mod bucket;
mod looks;
mod verify_damage;
mod verify_golden;
mod writes;
