"""Step 1 (patches of a slice), Step 3 (their fusion), and the patch records networks are trained on."""
