"""The examination of a machine and its environment."""
