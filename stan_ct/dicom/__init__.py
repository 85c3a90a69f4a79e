"""DICOM in and out: trees of files -> CT series -> volumes in HU, and a volume -> a derived series beside its source."""
