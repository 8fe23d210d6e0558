"""The README's requests, as they stand there, over a real socket."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from contracts.settings import Settings, as_values
from contracts.waiting import wait_until
from oltp.commands.execute import build_command_pod, execute
from stack.composition.keys import make_first_keys
from stack.ports import free_port
from stack.processes.api_address import is_ready, store_address
from stack.settings import ROOT
from stack.upkeep.serving import run_api
from tests.integration.api.indexing import index_everything
from traffic.shops import SHOPS, create_products, register_shop

SECTION = re.compile(r"^## One order's journey\n(.*?)^## ", re.DOTALL | re.MULTILINE)
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)


@pytest.fixture
def served(api_settings: Settings, tmp_path: Path) -> Iterator[Path]:
    """A checkout's folder in which the interface serves a shop of the generator: `var/` and `./tieout`."""
    values = replace(api_settings, var_dir=tmp_path / "var")
    (pod_settings,) = values.pods
    with build_command_pod(pod_settings, control_dsn=values.control_dsn) as pod:
        for one in (register_shop(SHOPS[0]), *create_products(SHOPS[0])):
            execute(pod, one.command, idempotency_key=one.key)
    index_everything(values)
    make_first_keys(values)
    script = "\n".join(f"export {name}={value!r}" for name, value in _named(values).items())
    command = tmp_path / "tieout"
    command.write_text(f'#!/bin/sh\n{script}\nexec {sys.executable} -m cli "$@"\n')
    command.chmod(0o700)
    port, stop = free_port(), threading.Event()
    address = store_address(values, port)
    server = threading.Thread(target=run_api, args=(values, stop), kwargs={"port": port})
    server.start()
    wait_until(lambda: is_ready(address), timeout_seconds=30, failure=lambda: "The interface does not answer.")
    yield tmp_path
    stop.set()
    server.join(timeout=30)
    assert not server.is_alive()


def _named(values: Settings) -> dict[str, str]:
    """Settings that a program takes, with something in place of the stores that these tests do not have."""
    placeholders = {"TIEOUT_CATALOG_DSN": "x", "TIEOUT_DAGSTER_DSN": "x", "TIEOUT_LOG_URL": "redis://127.0.0.1:1/0"}
    return {**as_values(values), **placeholders, "PYTHONPATH": str(ROOT)}


def test_the_readmes_requests_do_what_it_says(served: Path) -> None:
    section = SECTION.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert section is not None
    commands = BLOCK.findall(section[1])
    assert len(commands) == 2
    outcome = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(commands)], cwd=served, capture_output=True, text=True, timeout=120
    )
    assert outcome.returncode == 0, outcome.stderr
    assert '"status":"authorized"' in outcome.stdout
    account, found = outcome.stdout.split('{"customer_id":"c-1"')[1].split('{"items"', 1)
    assert '"order_number":"W' in account, outcome.stdout
    assert '"corrections":{"wraping":"wrapping"}' in found and '"sku":"WRAP"' in found
    assert '"lines":[{"sku":"WRAP","quantity":2' in found  # one of each device
    status = found.rpartition('{"order":')[2]
    assert '"total_minor":500' in status and '"captured_minor":500' in status and '"refunded_minor":250' in status
