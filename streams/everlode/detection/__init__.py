"""Who has failed: a pure function of one heartbeat partition."""
