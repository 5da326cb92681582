"""Faust: one app a process, one module an agent, one way to acknowledge."""
