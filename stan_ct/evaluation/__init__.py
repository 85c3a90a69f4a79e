"""Step 4: texture features of source, synthesized and target images and the errors between them (Eq. 8)."""
