"""What follows from what was said: decide, evolve and react for the five aggregates."""
