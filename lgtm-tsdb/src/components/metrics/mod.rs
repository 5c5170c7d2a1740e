//! What the components tell of themselves, gathered when it is asked for. Names follow Mimir's where the meaning is the same.
//!
//! Each component has a `register_metrics`. The registry holds the component weakly: one that is gone tells nothing.

mod ingester;
mod queries;
mod store_gateway;
mod value;
mod write_path;
