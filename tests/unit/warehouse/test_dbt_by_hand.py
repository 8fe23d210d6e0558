"""dbt by hand: what may be asked, which lock it takes, when a build counts as complete, which exit code comes out."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from contracts.errors import InputError
from contracts.settings import Settings
from derived import dbt_by_hand
from derived.builds import Build
from derived.dbt_by_hand import check_arguments, is_building, is_offline, is_writing, run_by_hand
from orchestration.unstarted import settings_for_drawing


@pytest.mark.parametrize("arguments", [[], ["--debug", "build"], ["clean"], ["orders"], ["--version"]])
def test_only_a_command_of_dbt_comes_first(arguments: list[str]) -> None:
    with pytest.raises(InputError, match="Begin with a command of dbt"):
        check_arguments(arguments)


@pytest.mark.parametrize("option", ["--empty", "--sample=1 day", "--threads", "--threads=4", "--project-dir"])
def test_what_would_harm_the_warehouse_is_refused(option: str) -> None:
    with pytest.raises(InputError, match=f"takes no {option.partition('=')[0]}: it "):
        check_arguments(["build", option])


@pytest.mark.parametrize(
    ("arguments", "writes", "builds", "offline"),
    [
        ("build -s daily_sales", True, True, False),
        ("run", True, True, False),
        ("run --help", False, False, True),
        ("retry", True, True, False),
        ("seed", True, False, False),
        ("snapshot", True, False, False),
        ("run-operation clear", True, False, False),
        ("test", False, False, False),
        ("test --store-failures", True, False, False),
        ("show -s orders", False, False, False),
        ("compile", False, False, False),
        ("docs generate", False, False, False),
        ("docs serve", False, False, True),
        ("source freshness", False, False, False),
        ("ls", False, False, True),
        ("parse", False, False, True),
    ],
)
def test_what_writes_holds_the_lock_and_what_only_reads_the_project_needs_no_server(
    arguments: str, writes: bool, builds: bool, offline: bool
) -> None:
    given = arguments.split()
    assert check_arguments(given) == given[0]
    assert (is_writing(given), is_building(given), is_offline(given)) == (writes, builds, offline)


MODEL, TEST, UNIT_TEST = "model.tieout.orders", "test.tieout.orders_are_whole", "unit_test.tieout.orders"


def outcome(name: str, status: str = "success") -> Any:
    return SimpleNamespace(node=SimpleNamespace(unique_id=name), status=status)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    target = tmp_path / "dbt" / "by_hand"
    target.mkdir(parents=True)
    kinds = {MODEL: "model", TEST: "test", UNIT_TEST: "unit_test"}
    nodes = {name: {"resource_type": kind} for name, kind in kinds.items()}
    (target / "manifest.json").write_text(json.dumps({"nodes": nodes}))
    return settings_for_drawing(tmp_path)


Ran = tuple[Build, Any, list[list[str]]]
"""A build, what came of it by hand, and dbt's arguments."""


def ran(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, *outcomes: Any, is_outgrown: bool = False, **result: Any
) -> Ran:
    """Build by hand with a dbt that says so."""
    build = Build(build_id="b", pods={}, connection=cast("Any", None), is_outgrown=is_outgrown)
    asked: list[list[str]] = []
    values = {"success": True, "exception": None, "result": list(outcomes)} | result

    def run(_settings: Settings, arguments: list[str], **_: Any) -> Any:
        asked.append(arguments)
        return SimpleNamespace(**values)

    monkeypatch.setattr(dbt_by_hand, "run_dbt_aloud", run)
    return build, run_by_hand(settings, ["build"], build), asked


def test_a_build_of_every_model_and_test_is_complete(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    build, done, _ = ran(monkeypatch, settings, outcome(MODEL), outcome(TEST, "warn"))
    assert build.is_complete and done.is_complete and done.exit_code == 0


@pytest.mark.parametrize(
    ("outcomes", "success"),
    [
        ([outcome(MODEL)], True),
        ([outcome(TEST, "pass")], True),
        ([], True),
        ([outcome(MODEL), outcome(TEST, "fail")], False),
        ([outcome(MODEL), outcome(TEST, "skipped")], True),
    ],
)
def test_a_build_that_lacks_something_is_not_complete(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, outcomes: list[Any], success: bool
) -> None:
    build, done, _ = ran(monkeypatch, settings, *outcomes, success=success)
    assert not build.is_complete and not done.is_complete
    assert done.exit_code == (0 if success else 1)


def test_an_outgrown_warehouse_is_built_from_nothing(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    for is_outgrown, arguments in ((True, ["build", "--full-refresh"]), (False, ["build"])):
        _, _, asked = ran(monkeypatch, settings, outcome(MODEL), is_outgrown=is_outgrown)
        assert asked == [arguments]


def test_what_dbt_could_not_run_has_its_exit_code_and_an_interruption_ends_it(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    wrong = type("DbtUsageException", (Exception,), {})("No such option '--nonsense'.")
    _, done, _ = ran(monkeypatch, settings, success=False, exception=wrong, result=None)
    assert (done.exit_code, done.usage_error, done.is_complete) == (2, str(wrong), False)
    _, done, _ = ran(monkeypatch, settings, success=False, exception=RuntimeError("no server"), result=None)
    assert (done.exit_code, done.usage_error) == (2, "")
    with pytest.raises(KeyboardInterrupt):
        ran(monkeypatch, settings, success=False, exception=KeyboardInterrupt(), result=None)


def test_the_first_command_by_hand_takes_over_what_builds_have_parsed(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    parsed = settings.var_dir / "dbt" / "target" / "partial_parse.msgpack"
    parsed.parent.mkdir()
    parsed.write_bytes(b"parsed")
    ran(monkeypatch, settings, outcome(MODEL))
    own = settings.var_dir / "dbt" / "by_hand" / "partial_parse.msgpack"
    assert own.read_bytes() == b"parsed"
    own.write_bytes(b"newer")
    ran(monkeypatch, settings, outcome(MODEL))
    assert own.read_bytes() == b"newer"
