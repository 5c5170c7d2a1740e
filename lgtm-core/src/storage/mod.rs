//! Object storage, cut into one prefix per component.

mod backend;
mod bucket;
mod component;
mod layout;

pub use backend::from_url;
pub use bucket::Bucket;
pub use component::Component;
pub use layout::Layout;
