"""What `scripts/cluster-chaos` is made of: a cluster of processes, signals, load with a ledger, steps."""
