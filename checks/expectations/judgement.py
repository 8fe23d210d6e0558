"""What came of running a suite, as values; no Great Expectations here.

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
"""Of the rows that must not be there, as many are named; all are counted."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One expectation that does not hold."""

    expectation: str
    statement: str
    severity: Severity
    rows: int
    """How many rows must not be there; exact."""
    keys: tuple[str, ...]
    """Some of them."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """One suite in one pod."""

    suite: str
    """With its store, e.g. `oltp.orders`."""
    pod: str
    cut: int
    """At which the rows were read."""
    expectations: int
    findings: tuple[Finding, ...] = ()
    unknown: tuple[str, ...] = ()
    """Expectations that could not be looked at, and why. They are neither met nor unmet."""
    page: str = ""
    """In Data Docs, relative to their folder."""

    @property
    def met(self) -> int:
        """How many expectations hold."""
        return self.expectations - len(self.findings) - len(self.unknown)

    @property
    def is_critical(self) -> bool:
        """Whether anything that does not hold is more than a warning."""
        return any(finding.severity is Severity.CRITICAL for finding in self.findings)


def load_judge() -> ModuleType:
    """Import Great Expectations and what uses it, with its telemetry off; takes ten seconds the first time."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    let_pandas_in()
    return importlib.import_module("checks.expectations.judge")
