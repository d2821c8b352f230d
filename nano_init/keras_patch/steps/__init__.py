"""Several training steps per return to Python, if the callbacks allow it."""
