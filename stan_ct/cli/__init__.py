"""Command line: flags in, one settings object out, one call."""
