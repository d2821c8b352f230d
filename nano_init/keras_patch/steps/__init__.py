"""Several training steps between two returns to Python, with the callbacks that they allow."""
