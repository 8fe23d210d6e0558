"""`make pictures`: takes the README's pictures, with a headless browser from a running system.

Belongs here: which pictures there are, and the steps on a page before each picture. Does not belong here: the
browser (`docs/browser.py`).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from cli.console import ConsoleProgress, print_error
from contracts.errors import StackError, TieoutError
from docs.browser import Browser, browser
from stack.composition import session
from stack.processes.dagster_home import dagster_url
from stack.settings import ROOT

IMAGES = ROOT / "docs" / "images"
NOT_RUNNING = "The pictures show a running system: start it with `make run`, wait for Dagster's pages, then run this."
COLUMNS = 132
TIE_OUT_LINES = 30
FIGURES = "Operational against finance"
PAGE = (1200, 900)
WINDOW = (2600, 1500)
ROOM = 800
"""CSS pixels that Dagster's pages need around the graph, both sides together."""
WAREHOUSE = ("staging", "intermediate", "marts")
COLLAPSED = (*WAREHOUSE, "freshness")
"""What the picture of all stores shows as one node a group: the warehouse has its own picture."""
DRAWN_SCALE = 0.75
"""Dagster draws no edges and shortens the names below a scale of 0.6."""
GRAPH_SECONDS = 180.0
INTERRUPTED = 130
"""The exit code of a program that Ctrl-C ended."""
LOADED = """query { assetNodes { groupName } workspaceOrError { ... on Workspace { locationEntries {
    locationOrLoadError { __typename } } } } }"""
DRAWN = """(() => { const graph = [...document.querySelectorAll('svg')].find(one => one.querySelector('foreignObject'));
    if (!graph) return null;
    const box = graph.getBoundingClientRect(); return [box.x, box.y, box.width, box.height] })()"""
SCALE = """Number([...document.querySelectorAll('svg')].find(one => one.querySelector('foreignObject'))
    .parentElement.style.transform.match(/matrix\\(([0-9.]+)/)[1])"""
COMPLETE = """document.querySelectorAll('foreignObject').length > 10
    && !document.body.innerText.match('Loading|fetching statuses')"""
TERMINAL = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #14181f; display: inline-block; }}
pre {{ margin: 0; padding: 18px 22px; font: 14px/1.35 "DejaVu Sans Mono", monospace; color: #dbe2ea; }}
{stylesheet}
</style><body><pre id="terminal">{code}</pre></body>"""


def main() -> int:
    """Take every picture; return the exit code."""
    try:
        address = _running()
        progress = ConsoleProgress(plan=("Comparing everything", "Reporting a day", "Drawing the graph"))
        # The browser is another process: signals become exceptions, so that `browser` terminates it.
        with session.ended_by_signals(), browser() as page, tempfile.TemporaryDirectory() as folder:
            with progress.step("Comparing everything"):
                cuts = tie_out(page, Path(folder))
            with progress.step("Reporting a day"):
                daily(page, Path(folder), cuts)
            with progress.step("Drawing the graph"):
                graph(page, address)
    except TieoutError as error:
        print_error(error)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    progress.note(f"The pictures are in {IMAGES}. Look at them before you commit them.")
    return 0


def _running() -> str:
    """Return the address of Dagster's pages; StackError when nothing runs here."""
    values = session.settings_here()
    address = dagster_url(values)
    if session.resident(values.var_dir) is None or address is None:
        raise StackError(NOT_RUNNING)
    return address


def tie_out(page: Browser, folder: Path) -> list[str]:
    """Take a picture of the first figures that `tieout reconcile` prints. Returns the compared cuts: pod=cut."""
    lines = _tieout("reconcile").splitlines()
    first = next((place for place, line in enumerate(lines) if FIGURES in line), 0)
    shown = lines[first : first + TIE_OUT_LINES]
    drawing = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"))  # noqa: SIM115
    drawing.print(Text.from_ansi("\n".join(shown)))
    html = folder / "tie-out.html"
    html.write_text(drawing.export_html(code_format=TERMINAL), encoding="utf-8")
    page.show(html.as_uri(), width=1400, height=400, scale=2)
    box = page.ask("(r => [r.width, r.height])(document.getElementById('terminal').getBoundingClientRect())")
    page.show(html.as_uri(), width=int(box[0]) + 1, height=int(box[1]) + 1, scale=2)
    page.picture(IMAGES / "tie-out.png")
    return ["=".join(found) for found in re.findall(r"(\S+) at cut (\d+)", Text.from_ansi(lines[first]).plain)]


def daily(page: Browser, folder: Path, cuts: Sequence[str]) -> None:
    """Take a picture of the daily report's first page, at the compared cuts because new orders keep arriving."""
    path = folder / "daily.html"
    chosen = [word for cut in cuts for word in ("--cut", cut)]
    _tieout("report", "daily", *chosen, "--output", str(path))
    page.show(path.as_uri(), width=PAGE[0], height=PAGE[1])
    page.picture(IMAGES / "daily.png")


def graph(page: Browser, address: str) -> None:
    """Take the pictures of the graph: all stores with the warehouse as three groups, and the warehouse's models."""
    groups = _groups(address)
    _graph(page, address, [name for name in groups if name not in COLLAPSED], IMAGES / "graph.png")
    _graph(page, address, ["lake", *WAREHOUSE, "finance"], IMAGES / "graph-warehouse.png")


def _graph(page: Browser, address: str, expanded: Sequence[str], path: Path) -> None:
    """Take a picture of the graph with these groups expanded, in a window so large that Dagster draws all of it."""
    names = ",".join(f"global@global:{name}" for name in expanded)
    graph_address = f"{address}/asset-groups?{urllib.parse.urlencode({'expanded': names})}"
    page.show(graph_address, width=WINDOW[0], height=WINDOW[1])
    page.wait(f"{DRAWN} != null", what="the graph to be laid out", seconds=GRAPH_SECONDS)
    _, _, width, height = page.ask(DRAWN)
    scale = DRAWN_SCALE / page.ask(SCALE)
    page.show(graph_address, width=int(width * scale) + ROOM, height=int(height * scale) + ROOM)
    page.wait(f"{DRAWN} != null", what="the graph to be laid out again", seconds=GRAPH_SECONDS)
    page.wait(COMPLETE, what="every node of the graph to say how it stands", seconds=GRAPH_SECONDS)
    page.picture(path, clip=page.ask(DRAWN))


def _groups(address: str) -> list[str]:
    """Return the groups of the graph; StackError while a code location is not loaded."""
    body = json.dumps({"query": LOADED}).encode()
    asked = urllib.request.Request(f"{address}/graphql", data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=GRAPH_SECONDS) as answer:
        data = json.load(answer)["data"]
    entries = data["workspaceOrError"]["locationEntries"]
    kinds = {(entry["locationOrLoadError"] or {}).get("__typename") for entry in entries}
    if kinds != {"RepositoryLocation"}:
        raise StackError("Dagster's code locations are not loaded yet; wait until its pages show them.")
    return sorted({node["groupName"] for node in data["assetNodes"]})


def _tieout(*arguments: str) -> str:
    """Return the output of a `tieout` command, in colors; StackError if it fails and prints no answer."""
    command = [sys.executable, "-P", "-m", "cli", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FORCE_COLOR": "1", "COLUMNS": str(COLUMNS)}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    if not done.stdout and done.returncode:
        raise StackError(f"tieout {_words(arguments)} failed: {done.stderr.strip()}")
    return done.stdout


def _words(arguments: Sequence[str]) -> str:
    return " ".join(arguments)


if __name__ == "__main__":
    sys.exit(main())
