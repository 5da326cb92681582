"""A workload: a trace, who does what and when, the actors, the journal of what they were told."""
