"""Measured rows -> the tables and figures of a report."""
