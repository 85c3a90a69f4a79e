"""The blinded reader study (paper Step 4): pages for readers, and what they answered."""
