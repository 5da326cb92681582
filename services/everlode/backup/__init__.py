"""Backups: a consistent cut, containers, encryption, a signed manifest written last."""
