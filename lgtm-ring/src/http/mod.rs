//! The ring's page on an axum server (feature `http`).

mod routes;
#[cfg(test)]
mod tests;

pub use routes::{RingPage, router};
