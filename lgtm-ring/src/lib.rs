//! Consistent hash ring, replication and shuffle sharding.
