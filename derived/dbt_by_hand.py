"""dbt as a data engineer runs it (`tieout dbt`): any command, with its environment, beside the builds of Tieout.

Belongs here: which commands write and therefore hold the build lock, which options are refused, whether a build by hand
was complete. Does not belong here: what dbt needs to run (`derived/warehouse.py`), the command line
(`cli/commands/dbt.py`).

A build by hand records cuts like every other. It is complete only if it built every model and passed every test; then
reports read it and the next build starts from it. Otherwise it counts like a failed build: reports as of the last
complete build do not change, and the next build recomputes everything from there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from contracts.errors import InputError
from contracts.settings import Settings
from derived.builds import Build, build_lock, building
from derived.warehouse import dbt_environment, run_dbt_aloud

BUILDING = ("build", "run", "retry")
"""Commands that write models, at cuts of their own."""
WRITING = (*BUILDING, "clone", "run-operation", "seed", "snapshot")
STORING_TESTS = "--store-failures"
"""With this option the command `test` writes, too."""
READING = ("compile", "debug", "docs", "list", "ls", "parse", "show", "source", "test")
OFFLINE = ("list", "ls", "parse")
"""Commands that only read the project, and need no server."""
HELP = ("--help", "-h")

REFUSED = {
    "--empty": "would store tables without their rows",
    "--sample": "would store tables with a part of their rows",
    "--threads": "is always 1 here: transactions that run beside each other in one process crash DuckLake",
    "--project-dir": "is always this project",
    "--profiles-dir": "is always this project's",
    "--target-path": "is always below the folder of runtime files",
    "--no-write-json": "would leave nothing to tell a whole build from a part by",
}
"""Options that would damage the warehouse or run something else, and why."""

FULL_REFRESH = ("--full-refresh", "-f")
PARTIAL_PARSE = "partial_parse.msgpack"
BUILT = ("success", "pass", "warn")


@dataclass(frozen=True, kw_only=True)
class ByHand:
    """The result of a dbt command."""

    exit_code: int
    """dbt's exit code: 0 success, 1 a model or test failed, 2 dbt could not run."""
    usage_error: str = ""
    """What was wrong with the arguments; dbt does not print this itself."""
    is_complete: bool = False
    """Whether reports read this build now."""


def check_arguments(arguments: Sequence[str]) -> str:
    """Return the command among the arguments; InputError for commands and options that cannot be run here."""
    command = arguments[0] if arguments else ""
    if command not in (*WRITING, *READING):
        known = ", ".join(sorted({*WRITING, *READING}))
        raise InputError(f"Begin with a command of dbt ({known}), its options after it: `tieout dbt build -s orders`.")
    for argument in arguments[1:]:
        name = argument.partition("=")[0]
        if name in REFUSED:
            raise InputError(f"`tieout dbt` takes no {name}: it {REFUSED[name]}.")
    return command


def is_offline(arguments: Sequence[str]) -> bool:
    """Return whether the command needs no server."""
    asks_for_help = any(option in arguments for option in HELP)
    return asks_for_help or arguments[0] in OFFLINE or list(arguments[:2]) == ["docs", "serve"]


def is_building(arguments: Sequence[str]) -> bool:
    """Return whether the command writes models."""
    return arguments[0] in BUILDING and not is_offline(arguments)


def is_writing(arguments: Sequence[str]) -> bool:
    """Return whether the command writes to the warehouse, so that no build may run at the same time."""
    writes = arguments[0] in WRITING or (arguments[0] == "test" and STORING_TESTS in arguments)
    return writes and not is_offline(arguments)


@contextmanager
def locked_for(settings: Settings, arguments: Sequence[str]) -> Iterator[Build | None]:
    """Hold the build lock if the command writes; yield the build if it writes models. Run dbt in the block."""
    if is_building(arguments):
        is_from_nothing = any(option in arguments for option in FULL_REFRESH)
        since = dict.fromkeys((pod.pod for pod in settings.pods), 0) if is_from_nothing else None
        with building(settings, since=since) as build:
            yield build
    elif is_writing(arguments):
        with build_lock(settings):
            yield None
    else:
        yield None


def asks_for_freshness(arguments: Sequence[str]) -> bool:
    """Return whether the command checks the age of the sources."""
    return arguments[0] == "source" and not is_offline(arguments)


def run_by_hand(
    settings: Settings, arguments: Sequence[str], build: Build | None, *, lake_complete_at: datetime | None = None
) -> ByHand:
    """Run dbt with `arguments`, and set whether `build` (if there is one) is complete.

    `lake_complete_at` is passed to `run_dbt_aloud`.
    """
    target = _target(settings)
    given = [*arguments]
    if build is not None and build.is_outgrown and not any(option in given for option in FULL_REFRESH):
        given.append(FULL_REFRESH[0])
    result = run_dbt_aloud(settings, given, target=target, lake_complete_at=lake_complete_at)
    if isinstance(result.exception, KeyboardInterrupt):
        raise result.exception
    if build is not None:
        build.is_complete = result.success and is_whole(result.result, _needed(target))
    return ByHand(
        exit_code=0 if result.success else 1 if result.exception is None else 2,
        usage_error=_usage_error(result),
        is_complete=build is not None and build.is_complete,
    )


def is_whole(results: Any, needed: set[str]) -> bool:
    """Return whether a command built and passed all of `needed` (ids of models and tests)."""
    faultless = {one.node.unique_id for one in results or () if str(one.status) in BUILT}
    return bool(needed) and needed <= faultless


def _needed(target: Path) -> set[str]:
    """Return the ids of all models and tests of the project that dbt has just read; unit tests do not test data."""
    nodes = json.loads((target / "manifest.json").read_text(encoding="utf-8"))["nodes"]
    return {name for name, node in nodes.items() if node["resource_type"] in ("model", "test")}


def _usage_error(result: Any) -> str:
    return str(result.exception) if type(result.exception).__name__ == "DbtUsageException" else ""


def _target(settings: Settings) -> Path:
    """Return the target folder of commands by hand; the first command copies the parse result of the builds."""
    parsed = Path(dbt_environment(settings)["DBT_TARGET_PATH"]) / PARTIAL_PARSE
    target = settings.var_dir / "dbt" / "by_hand"
    target.mkdir(parents=True, exist_ok=True)
    if not (target / PARTIAL_PARSE).exists():
        with suppress(FileNotFoundError):
            shutil.copy(parsed, target / PARTIAL_PARSE)
    return target
