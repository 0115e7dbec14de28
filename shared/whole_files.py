"""Small files that other processes read while they are written anew.

Who opens such a file finds the old text or the new one, whole.
"""

from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Replaces what `path` holds at one moment. One writer at a time: the unfinished file's name is the same."""
    unfinished = path.with_name(f".{path.name}.tmp")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
