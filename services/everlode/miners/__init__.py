"""Miner registries: registration, stake, reputation, performance."""
