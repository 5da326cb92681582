"""Recovery: plan, stages in order, gates (what must be true after each), switch, report."""
