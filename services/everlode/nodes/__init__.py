"""Nodes: one process of one service, from its parts."""
