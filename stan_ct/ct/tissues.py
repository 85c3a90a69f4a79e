"""Tissues by HU."""

TISSUES = {"lung": (-950.0, -500.0), "fat": (-150.0, -30.0), "soft tissue": (0.0, 150.0), "bone": (200.0, 3000.0)}
"""Tissue -> HU, both ends included. Air outside the body, airways and bullae lie below lung; what lies between is none."""
