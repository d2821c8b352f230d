"""Hooks that observe a training from inside its process: step times, losses, profiles."""
