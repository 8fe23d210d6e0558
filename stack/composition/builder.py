"""Builds the warehouse in a child process, which prepares itself while the parent does other work.

dbt needs seconds for its import and for reading its project. The child does both as soon as it starts, in parallel with
the parent. Belongs here: the child process, and sending it requests. Does not belong here: what a build is
(`derived/warehouse.py`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from contracts.errors import TieoutError, UnprovenBuildError, WarehouseError
from contracts.pandas_apart import keep_pandas_out
from contracts.settings import Settings
from derived.lifeline import end_with_input
from stack.processes.duties import builder_settings
from stack.scrubbing import scrubber
from stack.settings import ROOT, load_settings, without_settings

END_PATIENCE_SECONDS = 2.0
PASSED = ("success", "pass", "warn")


@dataclass(frozen=True, kw_only=True)
class Built:
    """The result of a build; `cuts` are the warehouse's cuts after it."""

    build_id: str
    cuts: dict[str, int]
    is_complete: bool
    is_built: bool
    """Whether every model was built; tests may have failed."""
    models: int
    tests: int
    failed: list[str] = field(default_factory=list)
    """Names of tests that failed and models that could not be built, with their message and the first keys."""
    left_out: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """Defective aggregates that the build leaves out, each with its defect and its amounts."""
    seconds: float


@dataclass(kw_only=True)
class WarehouseBuilder:
    """A child process that builds the warehouse once per request."""

    child: subprocess.Popen[str]
    log: str
    built: Built | None = None
    """The last build; None before the first."""
    is_building: bool = False

    def start(self) -> None:
        """Start a build without waiting for it, unless one is running."""
        if not self.is_building:
            self._order({})

    def build_again(self, *, since: Mapping[str, int], full_refresh: bool, tables: Sequence[str] = ()) -> Built:
        """Rebuild everything after the cuts `since`, or the whole warehouse; with `tables` only these stored tables.

        Raises WarehouseError, or UnprovenBuildError when only tests failed, unless the build is complete.
        """
        if self.is_building:
            self.build()
        self._order({"full_refresh": True} if full_refresh else {"since": dict(since), "tables": list(tables)})
        built = self.build()
        _check_complete(built)
        return built

    def _order(self, arguments: Mapping[str, Any]) -> None:
        if self.child.stdin is None:
            raise WarehouseError("The warehouse builder was not started with pipes.")
        try:
            self.child.stdin.write(json.dumps(arguments) + "\n")
            self.child.stdin.flush()
        except BrokenPipeError:
            raise WarehouseError(f"The warehouse builder ended unexpectedly; its log is {self.log}.") from None
        self.is_building = True

    def build(self) -> Built:
        """Build the warehouse up to the lake's newest complete cuts. WarehouseError when the build could not run."""
        self.start()
        answer = self.child.stdout.readline() if self.child.stdout else ""
        self.is_building = False
        if not answer:
            raise WarehouseError(f"The warehouse builder ended unexpectedly; its log is {self.log}.")
        values = json.loads(answer)
        if "error" in values:
            raise WarehouseError(values["error"])
        self.built = Built(**values)
        return self.built

    def build_to(self, cuts: Mapping[str, int]) -> Mapping[str, int]:
        """Build, unless the last build already has `cuts`; return the warehouse's cuts.

        Raises WarehouseError when a model failed, UnprovenBuildError when only tests did.
        """
        built = self.built
        # A running build may have started before the cuts were in the lake.
        while built is None or self.is_building or any(built.cuts.get(pod, 0) < cut for pod, cut in cuts.items()):
            was_building = self.is_building
            built = self.build()
            if not was_building:
                break
        _check_complete(built)
        return built.cuts


def _check_complete(built: Built) -> None:
    if built.is_complete:
        return
    message = f"The warehouse build {built.build_id} is not complete: {'; '.join(built.failed[:5])}."
    raise UnprovenBuildError(message, built.cuts) if built.is_built else WarehouseError(message)


@contextmanager
def warm_builder(settings: Settings) -> Iterator[WarehouseBuilder]:
    """Start the child process, which prepares itself; it ends when the context exits or this process ends."""
    log = settings.var_dir / "logs" / "warehouse.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as errors:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "stack.composition.builder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
            start_new_session=True,
            env={**without_settings(os.environ), **builder_settings(settings), "PYTHONPATH": str(ROOT)},
        )
    try:
        yield WarehouseBuilder(child=child, log=str(log))
    finally:
        _end(child)
        if child.stdout is not None:
            child.stdout.close()


def _end(child: subprocess.Popen[str]) -> None:
    if child.stdin is not None:
        # The child ends at the end of its input. A child that is still preparing does not read its input yet.
        with suppress(BrokenPipeError):
            child.stdin.close()
    try:
        child.wait(timeout=END_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        child.terminate()
        child.wait()


def main() -> None:
    """Run the child: prepare, then build once per request and write an answer. Requests and answers are lines of JSON.

    A request holds arguments of `build_warehouse`.
    """
    # dbt prints to standard output. We redirect that to standard error and keep a copy of the pipe for the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    keep_pandas_out()
    from derived.warehouse import build_warehouse, parse

    # This process holds the build lock itself, so a running build stays locked if the parent is killed. We end all the
    # same, because nobody reads the result then.
    end_with_input()
    settings = load_settings()
    parse(settings)
    clean = scrubber(settings)
    for line in sys.stdin:
        order = json.loads(line)
        answers.write(json.dumps(answer_of(partial(build_warehouse, settings, **order), clean)) + "\n")
        answers.flush()


def answer_of(build: Callable[[], Any], clean: Callable[[str], str]) -> dict[str, Any]:
    """Build, and return the answer for the parent: a summary or an error; `clean` removes secrets from messages."""
    try:
        return _summary(build(), clean)
    except TieoutError as error:
        return {"error": clean(str(error))}
    except Exception as error:  # a traceback would write the DSN into the log
        return {"error": clean(f"{type(error).__name__}: {error}")}


def _summary(result: Any, clean: Callable[[str], str]) -> dict[str, Any]:
    kinds = [node.kind for node in result.nodes]
    return {
        "build_id": result.build_id,
        "cuts": dict(result.cuts),
        "is_complete": result.is_complete,
        "is_built": result.is_built,
        "models": kinds.count("model"),
        "tests": kinds.count("test"),
        "left_out": [clean(one.sentence) for one in result.left_out],
        "warnings": [clean(sentence) for sentence in result.warnings],
        "failed": [clean(node.sentence) for node in result.nodes if node.status not in PASSED],
        "seconds": round(result.seconds, 3),
    }


if __name__ == "__main__":
    main()
