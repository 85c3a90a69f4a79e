"""Parts of `benchmarks/reproduce.py`: rows, data sets, steps that are done once, intervals, answers and pages."""
