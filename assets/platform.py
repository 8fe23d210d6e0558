"""What assets and checks are given to work with: one value, put together by `orchestration/`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from contracts.settings import Settings
from reconcile.context import ReconcileContext
from streams.projection import Projection

PLATFORM = "platform"
"""Resource key of the `Platform`."""


@dataclass(frozen=True, kw_only=True)
class Platform:
    """The running system as the graph sees it. Building it connects to nothing."""

    settings: Settings
    build_projection: Callable[[str], Projection]
    """Projection name -> the projection."""
    reconcile_context: Callable[[], ReconcileContext]
    """Returns the context of one run of comparisons."""
    propagating: Callable[[], AbstractContextManager[None]]
    """While it is open, events get to every copy, whether or not workers run."""


def platform_of(context: Any) -> Platform:
    """Return the platform from an execution context (asset, check, op or sensor)."""
    platform: Platform = getattr(context.resources, PLATFORM)
    return platform
