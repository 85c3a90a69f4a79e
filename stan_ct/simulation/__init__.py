"""CT simulator: a random thorax, and how a scanner would picture it with any kernel and slice thickness."""
