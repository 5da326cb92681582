"""Recovery: plan, stages in priority order, gates, switch, report."""
