"""Miner registries, the running of them: whom they keep, what they owe; rules are in `state`."""
