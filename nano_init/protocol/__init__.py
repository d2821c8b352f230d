"""All values that cross a process boundary, and all environment variables of nano-init."""
