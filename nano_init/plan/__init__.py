"""Deciding what to set and why: pure functions from facts to a plan."""
