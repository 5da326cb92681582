"""The processes of a network on this machine, beside its stack: started, killed, measured."""
