"""Data sets: one file a format, each a factory returning `Dataset`."""
