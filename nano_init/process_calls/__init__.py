"""Calls of a script that several processes answer together."""
