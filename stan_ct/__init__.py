"""STAN-CT: CT images of any reconstruction kernel, standardized to one protocol, DICOM in and DICOM out."""

__version__ = "0.1.0"
