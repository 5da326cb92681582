"""A workload for a whole network: a trace, who does what, the actors, what was acknowledged."""
