"""Trained models as folders, and those that ship with STAN-CT."""
