//! Which spans of a batch a query means.
//!
//! [`Program`] is a pipeline made ready. Filters are computed for all rows of a batch at once (`mask`), what is left trace by trace.

mod aggregate;
mod datum;
mod mask;
mod node;
mod row;
mod spanset;
mod structural;
mod view;

pub(crate) use spanset::{Program, SpanSet};

pub(crate) use datum::{Datum, Meaning};
pub(crate) use node::Node;
pub(crate) use view::{Place, View, of_trace};
