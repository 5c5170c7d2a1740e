//! What the components tell of themselves, gathered when it is asked for. Names follow Mimir's where the meaning is the same.
//!
//! Builders register what they build. The registry holds a component weakly: one that is gone tells nothing.

mod compactor;
mod ingester;
mod queries;
mod value;
mod write_path;
