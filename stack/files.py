"""Files that the stack writes: private files, generated passwords, logs with a limited size.

Belongs here: writing a file atomically and readable for its owner only, and removing other users' rights on folders.
Does not belong here: the content of the files.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

PRIVATE_MASK = 0o077
"""The umask of our processes: only the owner may read a file (0600) or enter a folder (0700) that they create."""


def keep_private() -> None:
    """Set the umask of this process and its future children, so that new files and folders are for the owner only."""
    os.umask(PRIVATE_MASK)


def close_to_others(folder: Path) -> None:
    """Remove all rights of other users from `folder`, if it exists; the first time also from everything in it.

    A folder of an earlier version was made with the shell's umask, and hard links elsewhere may lead to its files.
    """
    if not folder.is_dir() or not folder.stat().st_mode & PRIVATE_MASK:
        return
    for path in (*folder.rglob("*"), folder):
        if not path.is_symlink():
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~PRIVATE_MASK)


def write_private(path: Path, text: str) -> None:
    """Write `text` to `path` for its owner only (0600); a reader sees the old file or the new one, both complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())


def write_whole(path: Path, data: bytes, *, is_shared: bool = False) -> None:
    """Write a file for its owner only (0600), atomically; write directly to what cannot be replaced (a pipe).

    `is_shared`: a file that exists keeps its mode, so the same users can read it as before.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    target = path.resolve()
    draft = target.with_name(f".{target.name[:200]}.{os.getpid()}.{secrets.token_hex(4)}")
    mode = stat.S_IMODE(target.stat().st_mode) if is_shared and target.exists() else 0o600
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.fchmod(descriptor, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def stored_password(path: Path) -> str:
    """Return the password in `path`; generate and store one (0600) when there is none."""
    if path.exists():
        return path.read_text(encoding="utf-8").strip()
    password = secrets.token_urlsafe(24)
    write_private(path, password + "\n")
    return password


def rotate(path: Path, *, size_bytes_max: int = 10_000_000) -> None:
    """Limit the size of a log file: rename it to `<name>.1` when it is larger than `size_bytes_max`."""
    if path.exists() and path.stat().st_size > size_bytes_max:
        path.replace(path.with_name(path.name + ".1"))


def tail(path: Path, lines: int = 1) -> str:
    """Return the last non-empty lines of a log, or an empty string when it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    kept = [line for line in text.splitlines() if line.strip()]
    return "\n".join(kept[-lines:])
