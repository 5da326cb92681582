"""Who gets the work: power of two choices on load, reputation and speciality."""
