"""The DICOM-to-DICOM pipeline (paper Sec. "DICOM Reconstruction Framework", Fig. 2)."""
