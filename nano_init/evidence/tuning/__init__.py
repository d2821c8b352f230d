"""The search for the fastest way to train a script, and the memory of what it has found."""
