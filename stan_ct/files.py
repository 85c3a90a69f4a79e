"""Files that belong together appear together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def write_together(output_dir: Path, files: Mapping[str, str | bytes]) -> None:
    """Writes files by name, text as UTF-8; none takes its name before all are on disk.

    Raises:
        IsADirectoryError: If a name is a directory's; nothing is written then.
        OSError: If the directory cannot be written.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    for name in files:
        if (output_dir / name).is_dir():
            raise IsADirectoryError(f"{output_dir / name} is a directory, where a file is to be written: move it away")
    unfinished = {name: output_dir / f".{name}.{os.getpid()}" for name in files}
    try:
        for name, content in files.items():
            unfinished[name].write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        for name in files:
            os.replace(unfinished[name], output_dir / name)
    finally:
        for path in unfinished.values():
            path.unlink(missing_ok=True)
