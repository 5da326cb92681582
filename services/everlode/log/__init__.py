"""The region's log as its writers hold it: facts by their one writer, signals, schemas learnt."""
