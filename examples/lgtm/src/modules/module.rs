//! One component as the host sees it.

use lgtm_core::Result;

use super::parts::Parts;

/// A component that a target may name.
#[derive(Debug)]
pub(crate) struct Module {
    /// What `-target` calls it: signal and component. Its service, if it has one, bears the same name.
    pub(super) name: &'static str,
    /// Whether those of other processes can be found by a ring, so that whoever asks it need not have it beside it.
    pub(super) by_ring: bool,
    /// Modules that it asks; their services start before its own and end after it. Whether they are here or elsewhere is decided in
    /// `targets`.
    pub(super) needs: &'static [&'static str],
    /// Makes it of the parts, and puts there what others take: services, routes, clients.
    pub(super) make: fn(&mut Parts) -> Result<()>,
}

/// All modules of one signal.
#[derive(Debug)]
pub(super) struct Signal {
    /// Its name, which all others begin with.
    pub(super) name: &'static str,
    /// Its modules, each below those that it needs.
    pub(super) modules: &'static [Module],
    /// Its groups, by what they are for: `read`, `write`, `backend`.
    pub(super) groups: &'static [(&'static str, &'static [&'static str])],
}
