"""Who leads: scopes, epochs and leases, folded from the control log."""
