"""Which code is running: the version, and the commit of the checkout or, without a repository, a hash of its files.

Belongs here: naming the code, for evidence and for `tieout --version`. Does not belong here: versions of dependencies.
"""

from __future__ import annotations

import hashlib
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

from stack.settings import ROOT

SUFFIXES = (".py", ".sql", ".yml", ".html")
LEFT_OUT = ("var", ".venv", "tests", "build")
SHOWN = 12


def package_version(root: Path = ROOT) -> str:
    """Return the version in the checkout's `pyproject.toml`, or that of the installed package when there is none."""
    project = root / "pyproject.toml"
    if not project.exists():
        return metadata.version("tieout")
    return str(tomllib.loads(project.read_text())["project"]["version"])


def code_version(root: Path = ROOT) -> str:
    """Return the commit, with ``+changes`` when files differ from it; ``files-<hash>`` without a repository."""
    commit = _git(root, "rev-parse", f"--short={SHOWN}", "HEAD")
    if commit is None:
        return f"files-{_files_hash(root)}"
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return commit if changed == "" else f"{commit}+changes"


def _git(root: Path, *arguments: str) -> str | None:
    if not (root / ".git").exists():
        # A repository in a parent folder is not ours.
        return None
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _files_hash(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.suffix in SUFFIXES and path.is_file()):
        relative = path.relative_to(root)
        if relative.parts[0] not in LEFT_OUT:
            digest.update(f"{relative}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:SHOWN]
