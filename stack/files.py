"""Files that the stack writes: private ones, generated passwords, logs that stay small.

Belongs here: writing a file so that nobody else can read it, whole or not at all, and keeping folders to their owner.
Does not belong here: what is in them.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

PRIVATE_MASK = 0o077
"""What a process of ours creates, only its owner may read (0600) or enter (0700), whatever the shell's umask is."""


def keep_private() -> None:
    """Create files and folders for their owner only from here on, in this process and in those that it starts."""
    os.umask(PRIVATE_MASK)


def close_to_others(folder: Path) -> None:
    """Take from `folder`, if it is there, every right of others; the first time also from what it holds.

    A folder of an earlier version was made with the shell's umask, and what is in it may be linked from elsewhere.
    """
    if not folder.is_dir() or not folder.stat().st_mode & PRIVATE_MASK:
        return
    for path in (*folder.rglob("*"), folder):
        if not path.is_symlink():
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~PRIVATE_MASK)


def write_private(path: Path, text: str) -> None:
    """Write `text` to `path` for its owner only (0600); a reader sees the old file or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())


def write_whole(path: Path, data: bytes, *, is_shared: bool = False) -> None:
    """Write a file for its owner only (0600), whole or not at all; what cannot be replaced (a pipe) is written to.

    Shared: one that is there already stays readable for whom it is now.
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
    """Keep a log file small: one that has grown beyond `size_bytes_max` becomes `<name>.1`."""
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
