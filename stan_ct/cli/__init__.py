"""The command `stan-ct`: flags -> a frozen dataclass -> one call of the library."""
