"""Reward distributors: calculate, pay once, book."""
