"""The fold over all aggregates, and the rows and figures that come of it."""
