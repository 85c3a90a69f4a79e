"""The methods paragraph of a report, and where its numbers come from."""
