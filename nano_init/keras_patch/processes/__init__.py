"""Calls of a running script that several processes answer: what travels there, and back."""
