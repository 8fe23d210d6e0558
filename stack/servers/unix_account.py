"""The account that embedded servers run as, and folders that it can reach.

PostgreSQL refuses to run as root. When root starts Tieout, we therefore run PostgreSQL as an unprivileged account that
owns the data. If that account cannot reach the checkout (for example inside /root), we put data and binaries in a
folder outside, whose name is a hash of the path. Belongs here: that account and that folder. Does not belong here: the
servers that use them.
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
    """The account that a server runs as; `switch` is whether it differs from the account of this process."""

    user_id: int
    group_id: int
    switch: bool

    def popen_options(self) -> dict[str, Any]:
        """Return the keyword arguments that make `subprocess` run a program as this account."""
        if not self.switch:
            return {}
        return {"user": self.user_id, "group": self.group_id, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Make this account the owner of `path`, if it differs from the account of this process."""
        if self.switch:
            try:
                os.chown(path, self.user_id, self.group_id)
            except OSError as error:
                raise StackError(
                    f"{path} could not be given to an unprivileged account ({error.strerror}), and PostgreSQL does not "
                    "run as root: start Tieout as an ordinary user."
                ) from None


def server_account() -> Account:
    """Return the account for PostgreSQL: that of this process, or an unprivileged one if this process runs as root."""
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
    """Return `folder`, or the substitute folder that is used when `account` cannot reach it. Neither must exist yet.

    The substitute is `<temporary files>/tieout-<hash of the path>`.
    """
    present = next(part for part in (folder, *folder.parents) if part.exists())
    if can_traverse(present, account):
        return folder
    key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    # A restart of the machine keeps /var/tmp, but may empty /tmp.
    base = Path("/var/tmp") if Path("/var/tmp").is_dir() else Path(tempfile.gettempdir())
    return base / f"tieout-{key}"


def make_reachable_folder(folder: Path, account: Account) -> Path:
    """Make `folder` and, if `account` cannot reach it, its substitute; return the one to use.

    Raises StackError when neither can be used. An existing substitute must belong to root.
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
    """Let `account` traverse `folder`, if it is ours, to reach the files below; `account` may not list `folder`."""
    if account.switch and folder.stat().st_uid == os.geteuid():
        folder.chmod(0o711)


def can_traverse(folder: Path, account: Account) -> bool:
    """Return whether `account` may enter `folder` and all its parents (by mode bits; access lists are not read)."""
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
    """Return `tree` if `account` can run `<tree>/<program>`; else copy the tree to `fallback` and return the copy."""
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
