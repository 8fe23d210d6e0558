"""An event evolves three times over stored events of every version, in a running product: everything ties, months stay.

The source is copied and changed as a developer changes it (`evolutions.py`); the folder with all data stays the same.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stack.composition import session
from stack.composition.projections import VIEWS
from stack.servers.embedded import embedded_servers
from stack.settings import ROOT
from tests.scenario.evolutions import EVOLUTIONS, SPLIT

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

ORDERS = 60
"""Of which all were placed in January 2026; the month is closed before the first change."""
LEFT_BEHIND = shutil.ignore_patterns(".*", "var", "__pycache__", "target", "logs", "dbt_packages")
LAST_MIGRATION = 24
FORMS = ("json", "csv", "html", "xlsx")
TABLES = (
    "account_orders",
    "account_payments",
    "account_refunds",
    "fulfillment_orders",
    "refunds",
    "refund_lines",
    "orders",
    "journal",
    "daily_sales",
    "tax_lines",
)


@dataclass
class Product:
    """A copy of the source, with a folder for its data."""

    source: Path
    folder: Path

    def python(self, *arguments: str, code: int = 0) -> str:
        """Run Python on the copy and return what it printed."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TIEOUT_")}
        environment = {**kept, "TIEOUT_VAR_DIR": str(self.folder), "PYTHONPATH": str(self.source)}
        done = subprocess.run(
            [sys.executable, "-P", "-m", *arguments],
            env=environment,
            cwd=self.source,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == code, f"{' '.join(arguments)}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def tieout(self, *arguments: str, code: int = 0) -> Any:
        """Run a command and return its JSON answer."""
        return json.loads(self.python("cli", *arguments, "--json", code=code))

    def trade(self) -> str:
        """Place some orders, bring every copy up to date, and compare everything; it must tie."""
        return self.python("cli.run", "--once", "--orders", "20")

    def rows(self) -> dict[str, list[list[Any]]]:
        """Return what the copies hold."""
        found = {}
        for table in TABLES:
            answer = self.tieout("sql", f"select * from {table}", "--rows", "100000")
            assert answer["rows"] and not answer["is_cut_off"], table
            found[table] = sorted(answer["rows"], key=repr)
        return found

    def closed_files(self, folder: Path) -> dict[str, bytes]:
        """Return the files of the closed month."""
        folder.mkdir()
        for form in FORMS:
            self.tieout_file("report", "daily", "--period", "2026-01", "--output", str(folder / f"daily.{form}"))
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    def tieout_file(self, *arguments: str) -> None:
        """Run a command that writes a file."""
        self.python("cli", *arguments)


@pytest.fixture
def product(session_folder: Path, tmp_path: Path) -> Iterator[Product]:
    """The product as it is now, in a copy; nothing of it runs afterwards."""
    made = Product(source=tmp_path / "product", folder=session_folder / "evolution")
    shutil.copytree(ROOT, made.source, ignore=LEFT_BEHIND)
    yield made
    session.stop_everything(made.folder)
    embedded_servers(made.folder).wipe()


def test_an_event_evolves_three_times_over_stored_events(product: Product, tmp_path: Path) -> None:
    january = tmp_path / "january.jsonl"
    january.write_text(product.python("examples.shop_orders", str(ORDERS)))
    product.python("cli", "up", "--detach", "--no-ui", "--no-traffic")
    first = product.tieout("import", "--format", "orders", str(january))
    assert first["orders_imported"] == ORDERS and first["refunds"] > 3
    product.tieout("reconcile")
    product.python("cli", "close", "2026-01", "--yes")
    closed = product.closed_files(tmp_path / "closed")
    product.python("cli", "down")
    product.trade()

    for number, evolution in enumerate(EVOLUTIONS, LAST_MIGRATION + 1):
        evolution.apply(product.source, number)
        product.python("docs.generate")
        assert product.tieout("schemas", "check")["is_compatible"], evolution.name
        said = product.trade()
        assert "Everything ties" in said, evolution.name
        assert ("schema version 1, which was to be written until 2020-12-31" in said) == (evolution.version > 1)

    product.python("cli", "up", "--detach", "--no-ui", "--no-traffic")
    events = product.tieout(
        "sql", "select schema_version, count(*) from events where aggregate_type = 'refund' group by 1 order by 1"
    )
    assert [version for version, _ in events["rows"]] == [1, 2, SPLIT.version]
    asked = product.tieout("sql", "select asked_by, count(*) from refunds group by 1 order by 1")["rows"]
    assert [who for who, _ in asked] == ["phone", "unknown"], "what was not said before there was the field"
    split = "select count(*) from refunds where status = 'completed' and provider_kind || provider_number is null"
    assert product.tieout("sql", split)["rows"] == [[0]]

    # The same file again: the answers of all its commands were stored by the first version.
    again = product.tieout("import", "--format", "orders", str(january))
    assert (again["already_imported"], again["unfinished"]) == (ORDERS, 0)

    before = product.rows()
    for copy in (*VIEWS, "warehouse"):
        product.python("cli", "rebuild", copy)
    assert product.rows() == before, "from the lake, whose events are of three versions"
    assert product.tieout("parked", "list")["total"] == 0
    product.tieout("reconcile")

    (audit,) = (one["audit"] for one in product.tieout("periods", "--verify")["periods"])
    assert audit["is_intact"] and audit["files"] == 20 and audit["reports"] == 4
    assert product.closed_files(tmp_path / "after") == closed
    for form in FORMS:
        product.tieout("verify", str(tmp_path / "closed" / f"daily.{form}"))
    product.python("cli", "down")
