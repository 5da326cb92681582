"""Failover: the planner, its view, and the coordinator that carries the steps out."""
