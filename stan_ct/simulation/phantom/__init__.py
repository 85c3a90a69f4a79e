"""A random thorax whose axial sections can be computed at any level."""
