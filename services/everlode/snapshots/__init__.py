"""What is known of a fact topic without its beginning: snapshots, and the archive of what ended."""
