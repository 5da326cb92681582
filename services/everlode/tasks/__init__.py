"""Task managers, the running of them: assignments, leases, migration; rules are in `state`."""
