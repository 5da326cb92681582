"""One process as a member of the network: heartbeats, roles, leases, probes."""
