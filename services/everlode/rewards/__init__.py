"""Reward distributors, the running of them: when to pay, by which sink; rules are in `state`."""
