"""What oneDNN prints of its primitives, and what that proves."""
