"""Benchmarks: one file a figure; each measures itself against a peer or a limit in the same run."""
