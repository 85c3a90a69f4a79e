"""Reading, writing and measuring CT: Hounsfield units, DICOM series, reconstruction kernels."""
