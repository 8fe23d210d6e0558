"""The resources of the graph. Their settings are read once, when Dagster loads the code location.

Belongs here: building them. Does not belong here: what the graph uses them for (`assets/platform.py`).
"""

from __future__ import annotations

from assets.platform import PLATFORM, Platform
from contracts.progress import SILENT
from contracts.settings import Settings
from stack.composition.comparison import build_reconcile_context
from stack.composition.draining import propagating
from stack.composition.drilling import drill_everything
from stack.composition.kept_builder import KeptBuilder
from stack.composition.projections import build_projection, observed_projection
from stack.composition.repairing import repairing_tools
from stack.looking.reporting import statement_of
from stack.processes.data_docs import data_docs_url
from stack.upkeep.alerting import write_digest


def build_platform(settings: Settings, *, kept_builder: KeptBuilder | None = None) -> Platform:
    """Return the running system for these settings; connects to nothing yet.

    `kept_builder`: builds the warehouse for all repairs of this process.
    """
    return Platform(
        settings=settings,
        build_projection=lambda name: build_projection(name, settings),
        observed_projection=lambda name: observed_projection(name, settings),
        reconcile_context=lambda: build_reconcile_context(settings),
        propagating=lambda: propagating(settings),
        repairing=lambda: repairing_tools(settings, SILENT, kept_builder=kept_builder),
        drill=lambda say: drill_everything(settings, say),
        report=lambda name: statement_of(settings, name),
        write_digest=lambda comparison, run: write_digest(settings, comparison, run),
        data_docs_url=lambda: data_docs_url(settings),
    )


def build_resources(settings: Settings) -> dict[str, object]:
    """Return the resources that assets, checks and jobs of the graph use."""
    return {PLATFORM: build_platform(settings)}
