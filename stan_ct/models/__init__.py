"""Trained models: their configuration, their folders, and those that ship with STAN-CT."""
