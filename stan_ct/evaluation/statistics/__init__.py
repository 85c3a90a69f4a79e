"""Statistics of measured features: agreement, ComBat, image quality."""
