"""The HTTP face: queries, commands, recovery events, a page and metrics; it decides nothing."""
