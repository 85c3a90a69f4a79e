"""Texture features of images and regions, and their relative errors (paper Sec. "Evaluation Metric", Eq. 8)."""
