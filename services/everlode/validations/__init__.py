"""Validation, the running of it: what waits for a vote, the validators; rules are in `state`."""
