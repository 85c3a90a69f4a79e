"""Sites side by side: scans of several sites -> features -> how far the sites differ, before and after standardization."""
