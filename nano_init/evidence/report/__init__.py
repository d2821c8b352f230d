"""The report on a run: what was seen of it, what follows, and its forms."""
