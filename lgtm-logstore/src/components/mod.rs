//! What a host starts: components that know each other only by the traits of [`clients`].

pub mod clients;
