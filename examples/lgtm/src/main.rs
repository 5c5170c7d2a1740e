//! The example host.

fn main() {}
