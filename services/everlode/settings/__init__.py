"""Settings of a process, where its stack listens, and the topology file: below all that runs."""
