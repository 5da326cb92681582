"""The runtime of a primary: commands and reactions in, decisions, facts out in transactions."""
