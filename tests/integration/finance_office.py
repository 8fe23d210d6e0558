"""Two shops and the commands that finance uses, on real servers: what tests of closing share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from cli.app import app
from contracts.progress import SILENT
from contracts.settings import Settings
from derived.reports import REPORTS, Connection
from derived.warehouse import build_warehouse
from finance.periods import Period
from stack.composition import session
from stack.composition.builder import WarehouseBuilder
from stack.composition.certificate_evidence import gather_proof
from stack.composition.migrations import migrate_everything
from stack.composition.reconciling import reconcile_now, ties
from tests.integration.reconcile_world import Shop, open_shops

DECEMBER = datetime(2010, 12, 9, 10, tzinfo=UTC)
JANUARY = datetime(2011, 1, 17, 10, tzinfo=UTC)
FORMATS = ("json", "csv", "html", "xlsx")

Answer = Any


@dataclass(kw_only=True)
class Building:
    """Builds in this process, where dbt has been parsed already."""

    settings: Settings

    def start(self) -> None:
        """Nothing is to be had by beginning early."""

    def build_to(self, _cuts: Mapping[str, int]) -> Mapping[str, int]:
        """Build."""
        return build_warehouse(self.settings).cuts


class Office:
    """Two shops, and the commands that finance uses."""

    def __init__(self, settings: Settings, shops: tuple[Shop, Shop]) -> None:
        self.settings = settings
        self.shops = shops

    def at(self, moment: datetime) -> None:
        """Let everything that the shops do from now on happen at this moment."""
        for shop in self.shops:
            shop.pod = replace(shop.pod, clock=lambda: moment)

    def reconcile(self) -> bool:
        """Compare everything at new cuts, as `tieout reconcile` does; return whether it ties."""
        builder = cast(WarehouseBuilder, Building(settings=self.settings))
        return ties(reconcile_now(self.settings, SILENT, builder))

    def run(self, *arguments: str, fails: bool = False) -> Answer:
        """Run a command and return its JSON answer."""
        outcome = CliRunner().invoke(app, [*arguments, "--json"])
        if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
            raise outcome.exception
        assert (outcome.exit_code != 0) is fails, outcome.output
        return json.loads(outcome.stdout)

    def report(self, name: str, *options: str) -> Answer:
        """Return a report."""
        return self.run("report", name, *options)

    def files(self, folder: Path, period: str) -> dict[str, bytes]:
        """Return every file of every report of a period, as `tieout report` writes them."""
        folder.mkdir()
        for name in REPORTS:
            for file_format in FORMATS:
                path = folder / f"{name}.{file_format}"
                outcome = CliRunner().invoke(app, ["report", name, "--period", period, "--output", str(path)])
                assert outcome.exit_code == 0, outcome.output
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def open_office(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    """Give an office in December whose commands run on these servers."""

    @contextmanager
    def opened(_progress: object) -> Iterator[Settings]:
        yield settings

    monkeypatch.setattr(session, "open_session", opened)
    migrate_everything(settings)
    with open_shops(settings) as shops:
        office = Office(settings, shops)
        office.at(DECEMBER)
        yield office


def gather(office: Office, period: Period) -> Callable[[Connection], Any]:
    """Return what reads what is known of a month."""
    return lambda lake: gather_proof(office.settings, lake, period)
