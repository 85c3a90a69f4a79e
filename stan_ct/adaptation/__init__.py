"""Scans of two sites, of different patients -> a model; no series needs a partner in the other kernel."""
