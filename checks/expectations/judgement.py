"""The result of running a suite, as values; Great Expectations is not used here.

Belongs here: findings and judgements, and how Great Expectations is loaded. Does not belong here: running a suite
(`judge.py`).
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from types import ModuleType

from checks.expectations.declared import Severity
from contracts.pandas_apart import let_pandas_in

KEYS_SHOWN = 20
"""At most this many of the rows that break a rule are named; all of them are counted."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One expectation that does not hold."""

    expectation: str
    statement: str
    severity: Severity
    rows: int
    """Number of rows that break the rule; exact."""
    keys: tuple[str, ...]
    """Keys of some of these rows."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The result of one suite in one pod."""

    suite: str
    """The suite's name with its store, e.g. `oltp.orders`."""
    pod: str
    cut: int
    """The cut at which the rows were read."""
    expectations: int
    findings: tuple[Finding, ...] = ()
    unknown: tuple[str, ...] = ()
    """Expectations that could not look, and why. They count neither as met nor as unmet."""
    page: str = ""
    """Path of its page, relative to the folder of Data Docs."""

    @property
    def met(self) -> int:
        """How many expectations hold."""
        return self.expectations - len(self.findings) - len(self.unknown)

    @property
    def is_critical(self) -> bool:
        """Whether an expectation that does not hold is more than a warning."""
        return any(finding.severity is Severity.CRITICAL for finding in self.findings)


def load_judge() -> ModuleType:
    """Import Great Expectations and the module that uses it, with telemetry off; the first call takes ten seconds."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    let_pandas_in()
    return importlib.import_module("checks.expectations.judge")
