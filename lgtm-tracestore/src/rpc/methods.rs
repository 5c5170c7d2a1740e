//! Names of the methods.

pub(super) const PUSH: &str = "lgtm.traces.v1.Ingester/Push";
pub(super) const FIND_TRACE: &str = "lgtm.traces.v1.Ingester/FindTrace";
pub(super) const RECENT: &str = "lgtm.traces.v1.Ingester/Recent";
pub(super) const HAVE: &str = "lgtm.traces.v1.Ingester/Have";
pub(super) const WHOLE_TRACES: &str = "lgtm.traces.v1.Ingester/WholeTraces";
