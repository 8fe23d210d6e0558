"""The account that embedded servers run as, and folders that it can reach.

PostgreSQL refuses to run as root. A program that was started by root therefore runs it as an unprivileged account that
owns the data; where that account cannot reach the checkout (one inside /root, say), data and binaries are put in a
folder outside, keyed by the path. Belongs here: who, and where. Does not belong here: what is then run.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import StackError

CANDIDATES = ("postgres", "nobody")
"""Accounts tried, in this order, when the program runs as root."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """Who a server runs as; `switch` is whether that is somebody else than this process."""

    user_id: int
    group_id: int
    switch: bool

    def popen_options(self) -> dict[str, Any]:
        """Return the keyword arguments that make `subprocess` run a program as this account."""
        if not self.switch:
            return {}
        return {"user": self.user_id, "group": self.group_id, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Make `path` belong to this account."""
        if self.switch:
            try:
                os.chown(path, self.user_id, self.group_id)
            except OSError as error:
                raise StackError(
                    f"{path} could not be given to an unprivileged account ({error.strerror}), and PostgreSQL does not "
                    "run as root: start Tieout as an ordinary user."
                ) from None


def server_account() -> Account:
    """Return the account for PostgreSQL: this one, or for root an unprivileged one."""
    if os.geteuid() != 0:
        return Account(user_id=os.geteuid(), group_id=os.getegid(), switch=False)
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(user_id=entry.pw_uid, group_id=entry.pw_gid, switch=True)
    raise StackError(
        "PostgreSQL does not run as root, and this machine has no account named "
        f"{' or '.join(CANDIDATES)}: start Tieout as an ordinary user."
    )


def reachable_folder(folder: Path, account: Account) -> Path:
    """Return `folder`, or the stand-in outside that is used when `account` cannot reach it; neither need exist.

    The stand-in is `<temporary files>/tieout-<hash of the path>`.
    """
    present = next(part for part in (folder, *folder.parents) if part.exists())
    if can_traverse(present, account):
        return folder
    key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    # /var/tmp outlives a restart of the machine, /tmp need not.
    base = Path("/var/tmp") if Path("/var/tmp").is_dir() else Path(tempfile.gettempdir())
    return base / f"tieout-{key}"


def make_reachable_folder(folder: Path, account: Account) -> Path:
    """Make `folder` and, if `account` cannot reach it, its stand-in outside, which only root can have made; return it.

    Raises StackError when neither can be used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    let_pass(folder, account)
    outside = reachable_folder(folder, account)
    if outside == folder:
        return folder
    outside.mkdir(mode=0o711, exist_ok=True)
    if outside.is_symlink() or outside.stat().st_uid != os.geteuid():
        raise StackError(f"{outside} belongs to somebody else; remove it, or move the checkout out of {folder.parent}.")
    outside.chmod(0o711)
    if not can_traverse(outside, account):
        raise StackError(
            f"The account that PostgreSQL runs as can reach neither {folder} nor {outside}: move the checkout to a "
            "folder that every user may enter, or start Tieout as an ordinary user."
        )
    return outside


def let_pass(folder: Path, account: Account) -> None:
    """Let another account pass through `folder`, which is ours, to what lies below; it may not list it."""
    if account.switch and folder.stat().st_uid == os.geteuid():
        folder.chmod(0o711)


def can_traverse(folder: Path, account: Account) -> bool:
    """Return whether `account` may enter `folder` and all above it (by mode bits; access lists are not read)."""
    if not account.switch:
        return True
    resolved = folder.resolve()
    return all(_may_enter(part.stat(), account) for part in (resolved, *resolved.parents))


def _may_enter(status: os.stat_result, account: Account) -> bool:
    if status.st_uid == account.user_id:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.group_id:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def runnable_tree(tree: Path, program: str, account: Account, fallback: Path) -> Path:
    """Return `tree`, or a copy of it in `fallback` when `account` cannot run `<tree>/<program>` where it is."""
    if not account.switch or _runs(tree / program, account):
        return tree
    copy = fallback / tree.name
    if not _runs(copy / program, account):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(tree, copy, symlinks=True)
        for path in (copy, *copy.rglob("*")):
            if not path.is_symlink():
                is_executable = path.is_dir() or bool(path.stat().st_mode & stat.S_IXUSR)
                path.chmod(0o755 if is_executable else 0o644)
    if not _runs(copy / program, account):
        raise StackError(
            f"{copy / program} cannot be run as an unprivileged account; start Tieout as an ordinary user."
        )
    return copy


def _runs(program: Path, account: Account) -> bool:
    try:
        outcome = subprocess.run([program, "--version"], capture_output=True, cwd="/", **account.popen_options())
    except OSError:
        return False
    return outcome.returncode == 0
