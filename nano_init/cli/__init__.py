"""The commands: they parse, print and hand over; nothing is decided here."""
