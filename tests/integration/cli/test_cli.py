"""The command line: every command explains itself, and wrong use costs a sentence, not a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.app import app
from cli.conventions import WRONG_INPUT
from stack.looking.verdict import NOTHING_RUNS
from stack.settings import ROOT, write_settings_file

COMMANDS = (
    "up",
    "down",
    "reset",
    "status",
    "traffic",
    "import",
    "drain",
    "reconcile",
    "report",
    "imports",
    "close",
    "periods",
    "verify",
)
REPAIRS = ("rebuild", "republish", "backup", "restore-lake", "forget-projection")
ANSWERING = ("status", "traffic", "import", "drain", "reconcile", "report", "close", "periods", "verify", *REPAIRS)


@pytest.mark.parametrize("command", [*COMMANDS, *REPAIRS])
def test_every_command_explains_itself(command: str) -> None:
    outcome = CliRunner().invoke(app, [command, "--help"])
    assert outcome.exit_code == 0
    assert len(outcome.output) > 200


@pytest.mark.parametrize("command", ANSWERING)
def test_every_command_that_answers_can_answer_in_json(command: str) -> None:
    assert "--json" in CliRunner().invoke(app, [command, "--help"]).output


def _tieout(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TIEOUT_")}
    return subprocess.run(
        [sys.executable, "-P", "-m", "cli", *arguments],
        env={**environment, "TIEOUT_VAR_DIR": str(folder), "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
    )


def test_before_the_first_start_status_says_what_to_run(tmp_path: Path) -> None:
    outcome = _tieout(tmp_path, "status", "--json")
    assert outcome.returncode == WRONG_INPUT
    assert outcome.stderr == "Tieout has not been started here yet: run `make run` or `tieout up` first.\n"


def test_down_where_nothing_runs(tmp_path: Path) -> None:
    outcome = _tieout(tmp_path, "down")
    assert outcome.returncode == 0
    assert outcome.stdout == "Nothing was running.\n"


def test_status_of_a_stack_that_is_down_still_answers(tmp_path: Path) -> None:
    closed = "postgresql://someone:secret@127.0.0.1:9/nowhere"
    values = {f"TIEOUT_POD1_{role}_DSN": closed for role in ("OWNER", "APP", "RELAY", "READER")}
    names = ("CONTROL", "CATALOG", "READ_MODELS", "DAGSTER")
    values |= {f"TIEOUT_{name}_DSN": closed for name in names}
    values |= {
        "TIEOUT_PODS": "pod1",
        "TIEOUT_LOG_URL": "redis://:secret@127.0.0.1:9/0",
        "TIEOUT_LAKE_DATA_PATH": f"{tmp_path}/lake/",
    }
    write_settings_file(tmp_path, values)
    outcome = _tieout(tmp_path, "status", "--json")
    assert outcome.returncode == NOTHING_RUNS
    answer = json.loads(outcome.stdout)
    assert answer["state"] == "down"
    assert [pod["state"] for pod in answer["pods"]] == ["unreachable"]
    assert {copy["state"] for copy in answer["projections"]} == {"unreachable"}
    assert answer["verdict"]["exit_code"] == NOTHING_RUNS and "secret" not in outcome.stdout
    shown = _tieout(tmp_path, "status")
    assert "secret" not in shown.stdout + shown.stderr


def test_reset_says_what_it_deletes_and_does_it_for_nobody_who_did_not_agree(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(app, ["reset"], input="n\n", env={"TIEOUT_VAR_DIR": str(tmp_path)})
    assert outcome.exit_code != 0
    assert "will be stopped and deleted, for ever" in outcome.output and "--yes" in str(outcome.exception)
