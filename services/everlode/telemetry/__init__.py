"""What processes and operations report: typed entries, and where they go."""
