"""The main job: a real stack, a real workload, a failure, a backup, a disaster, a proof."""
