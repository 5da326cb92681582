"""The `everlode` command."""
