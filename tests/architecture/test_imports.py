"""Importing a module does nothing: it connects to nothing, starts nothing, and reads no environment of ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "api",
    "contracts",
    "oltp",
    "streams",
    "derived",
    "drills",
    "finance",
    "reconcile",
    "traffic",
    "witness",
    "cli",
    "stack",
    "assets",
    "checks",
    "orchestration",
)

# Runs in a process of its own: imports everything with an empty environment while every way out is watched.
PROBE = """
import importlib, json, os, pkgutil, sys
found = []
where = "start"

root, libraries = sys.argv[1], os.path.dirname(os.__file__)

def is_ours():
    # The nearest caller outside the standard library: some packages look around while they are imported.
    frame = sys._getframe(2)
    while frame and frame.f_globals["__name__"] != "__main__":
        name = frame.f_code.co_filename
        if not name.startswith(("<", libraries)) or "site-packages" in name:
            return name.startswith(root) and "site-packages" not in name
        frame = frame.f_back
    return False

def watch(event, arguments):
    if event in ("socket.connect", "socket.bind", "subprocess.Popen", "os.posix_spawn", "os.fork") and is_ours():
        found.append(f"{where}: {event} {arguments[-1]!r}"[:200])

class Watched(dict):
    def __getitem__(self, name): self.note(name); return super().__getitem__(name)
    def get(self, name, default=None): self.note(name); return super().get(name, default)
    def __contains__(self, name): self.note(name); return super().__contains__(name)
    def note(self, name):
        name = os.fsdecode(name)
        if name.startswith("TIEOUT"):
            found.append(f"{where}: reads {name}")

os.environ._data = Watched(os.environ._data)
sys.addaudithook(watch)
names = []
for package in sys.argv[2:]:
    names.append(package)
    folder = importlib.import_module(package).__path__
    names += [m.name for m in pkgutil.walk_packages(folder, package + ".")]
for where in names:
    if not where.endswith("__main__") and ".migrations." not in where:
        importlib.import_module(where)
json.dump({"modules": len(names), "found": found}, sys.stdout)
"""


def _probe(folder: Path, root: Path, *packages: str) -> dict[str, Any]:
    outcome = subprocess.run(
        [sys.executable, "-P", "-c", PROBE, str(root), *packages],
        cwd=folder,
        env={"PYTHONPATH": str(root), "HOME": str(folder), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert outcome.returncode == 0, outcome.stderr[-2000:]
    answer: dict[str, Any] = json.loads(outcome.stdout.splitlines()[-1])
    return answer


def test_the_probe_sees_what_it_is_meant_to_see(tmp_path: Path) -> None:
    package = tmp_path / "root" / "eager"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "connects.py").write_text("import socket\nsocket.socket().connect_ex(('127.0.0.1', 9))\n")
    (package / "reads.py").write_text("import os\nos.environ.get('TIEOUT_PODS')\n")
    (package / "runs.py").write_text("import subprocess\nsubprocess.run(['/bin/true'])\n")
    found = _probe(tmp_path, tmp_path / "root", "eager")["found"]
    assert {line.partition(":")[0] for line in found} == {"eager.connects", "eager.reads", "eager.runs"}


def test_importing_any_module_connects_to_nothing_and_reads_no_environment(tmp_path: Path) -> None:
    answer = _probe(tmp_path, ROOT, *PACKAGES)
    assert answer["modules"] > 40
    assert answer["found"] == []
    assert list(tmp_path.iterdir()) == []
