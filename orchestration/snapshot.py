"""A snapshot of the graph as text: keys, edges, checks, jobs. Committed (`docs/graph.txt`) and reviewed like code.

Run ``python -m orchestration.snapshot`` to write it; a test fails when it is stale.

Belongs here: this text. Does not belong here: the graph (`definitions.py`).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import dagster as dg

from orchestration import definitions
from orchestration.unstarted import settings_for_drawing

PATH = Path(__file__).resolve().parent.parent / "docs" / "graph.txt"


def lines_of(location: dg.Definitions) -> Iterator[str]:
    """Yield a line per asset (group, key, parents), then one per check, then one per job, each sorted."""
    graph = location.resolve_asset_graph()
    for key in sorted(graph.get_all_asset_keys(), key=str):
        node = graph.get(key)
        parents = ", ".join(sorted(parent.to_user_string() for parent in node.parent_keys))
        yield f"{node.group_name}: {key.to_user_string()}" + (f" <- {parents}" if parents else "")
    for check in sorted(graph.asset_check_keys, key=str):
        yield f"check: {check.asset_key.to_user_string()} / {check.name}"
    for job in sorted(job.name for job in location.resolve_all_job_defs() if not job.name.startswith("__")):
        yield f"job: {job}"


def snapshot() -> str:
    """Return the text of the graph."""
    with tempfile.TemporaryDirectory() as folder:
        graph = definitions.build_graph(settings_for_drawing(Path(folder)))
        return "".join(f"{line}\n" for line in lines_of(graph))


def main(arguments: Sequence[str]) -> int:
    """Write the snapshot, or with ``--check`` only say whether it is stale."""
    text = snapshot()
    if "--check" not in arguments:
        PATH.write_text(text)
        return 0
    if PATH.exists() and PATH.read_text() == text:
        return 0
    sys.stdout.write("docs/graph.txt is stale; run `python -m orchestration.snapshot` and commit it.\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
