"""The `everlode` command: a module a noun; it parses, asks a room below, and prints."""
