"""Rivals which pass through the same pipeline and the same tables as the networks."""
