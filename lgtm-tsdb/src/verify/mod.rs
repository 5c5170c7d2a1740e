//! Whether what is in a bucket is what it says: blocks looked into whole ([`verify_block`]), and what is said of a tenant's blocks
//! ([`verify_tenant`]).

mod block_check;
mod tenant_check;

pub use block_check::{VerifiedBlock, verify_block};
pub use tenant_check::verify_tenant;
