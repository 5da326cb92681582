"""Events, commands and states: what may be said."""
