"""A machine on which DuckDB never ran: extensions come from the wheels, and no home folder is read or written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from stack.settings import ROOT

CODE = """
import sys
from pathlib import Path
import duckdb
from derived.lake_connection import link_extensions
for _ in range(2):
    folder = link_extensions(Path(sys.argv[1]))
settings = {"autoinstall_known_extensions": False, "extension_directory": str(folder), "ducklake_max_retry_count": 100}
with duckdb.connect(":memory:", config=settings) as connection:
    connection.execute("load postgres_scanner")
    query = "select list_sort(list(extension_name)) from duckdb_extensions() where loaded"
    print(connection.execute(query).fetchall()[0][0])
"""


def test_extensions_load_from_the_linked_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    outcome = subprocess.run(
        [sys.executable, "-c", CODE, tmp_path / "extensions"],
        env={"HOME": str(home), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "'ducklake'" in outcome.stdout
    assert "'postgres_scanner'" in outcome.stdout
    assert list(home.iterdir()) == []
