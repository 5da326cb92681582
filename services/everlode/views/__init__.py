"""What operators are shown: records read from logs and projections, nothing decided."""
