"""Classical baselines, which pass through the same pipeline and tables as the networks."""
