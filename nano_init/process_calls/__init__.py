"""Calls of a script that several processes execute together."""
