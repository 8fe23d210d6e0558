"""The resource that assets and checks work with: one value, which `orchestration/` builds.

Belongs here: that value. Does not belong here: building it (`orchestration/resources.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.settings import Settings
from finance.statement import Statement
from reconcile.comparison_run import Comparison
from reconcile.context import ReconcileContext
from repair.tools import Repairing
from streams.projection import ClosableProjection

PLATFORM = "platform"
"""Resource key of the `Platform`."""


@dataclass(frozen=True, kw_only=True)
class Platform:
    """The running system as the graph sees it. Building it connects to nothing."""

    settings: Settings
    build_projection: Callable[[str], ClosableProjection]
    """Projection name -> the projection."""
    observed_projection: Callable[[str], ClosableProjection]
    """Projection name -> the projection for whoever asks how far it is; asking changes nothing."""
    reconcile_context: Callable[[], ReconcileContext]
    """Returns the context of one run of comparisons."""
    propagating: Callable[[], AbstractContextManager[None]]
    """While it is open, events reach every copy, whether workers run or not."""
    repairing: Callable[[], AbstractContextManager[Repairing]]
    """Gives what a run of repairs needs; while it is open, events reach every copy."""
    drill: Callable[[Callable[[str], None]], Path]
    """Runs all drills, reports progress in sentences, and returns the page with the evidence."""
    report: Callable[[str], Statement]
    """Report name -> the report of the newest build, with its certificate."""
    write_digest: Callable[[Comparison, str], object]
    """Writes the message to finance about a scheduled comparison; the text is the id of its run."""
    data_docs_url: Callable[[], str]
    """Returns the URL of the folder of Data Docs, without a slash at the end."""


def platform_of(context: Any) -> Platform:
    """Return the platform from an execution context (asset, check, op or sensor)."""
    platform: Platform = getattr(context.resources, PLATFORM)
    return platform
