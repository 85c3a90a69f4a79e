"""What `benchmarks/faults.py` measures: damaged files, kills, runs that meet, and disks that fail."""
