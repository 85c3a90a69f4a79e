"""A PACS node: CT series come in by C-STORE, are standardized, and go back by C-STORE or STOW-RS."""
