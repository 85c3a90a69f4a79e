"""CT images as arrays: Hounsfield units, tissues, noise, reconstruction kernels and their filters."""
