"""Tasks that tests give to workers."""

import os
from pathlib import Path


def die_at_first(folder: Path, number: int, deaths: int) -> int:
    """Ends its process the first times that it is called with a number, for each of which it leaves a letter in a file."""
    with open(folder / str(number), "a+") as file:
        file.write("x")
        file.flush()
        file.seek(0)
        if len(file.read()) <= deaths:
            os._exit(1)
    return number
