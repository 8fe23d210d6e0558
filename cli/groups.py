"""The headings under which `tieout --help` groups the commands by their users.

Belongs here: which command stands under which heading, in which order. Does not belong here: what a command does.
"""

from __future__ import annotations

import typer
from typer.core import TyperGroup
from typer.models import CommandInfo, TyperInfo

HEADINGS = {
    "On call: start, stop, look": ("up", "status", "down", "reload", "reset"),
    "On call: compare and repair": (
        "reconcile",
        "coverage",
        "carts",
        "witnesses",
        "breaks",
        "explain",
        "search",
        "repair",
        "alerts",
        "notifications",
        "disputes",
        "drill",
    ),
    "On call: bring copies back": (
        "drain",
        "rebuild",
        "reindex",
        "parked",
        "republish",
        "backup",
        "restore-lake",
        "forget-projection",
        "open-epoch",
    ),
    "On call: ask a server in its own language": ("psql", "valkey"),
    "Finance: reports and months": ("report", "close", "periods", "verify"),
    "Storefronts and admins: the HTTP interface": ("keys", "webhooks"),
    "Storefronts and admins: a sale that everybody waits for": ("hot-stock",),
    "Data engineers: bring orders in": ("import", "imports", "traffic"),
    "Data engineers: ask and change the warehouse": ("sql", "dbt", "schemas"),
}
"""Each heading begins with its users."""


class Grouped(TyperGroup):
    """Lists its commands in the order of `HEADINGS`."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Return the names of all commands; those without a heading come last."""
        order = {name: place for place, name in enumerate(name for names in HEADINGS.values() for name in names)}
        return sorted(super().list_commands(ctx), key=lambda name: order.get(name, len(order)))


def put_under_headings(app: typer.Typer) -> None:
    """Set the heading of every command; KeyError if one has none."""
    headings = {name: heading for heading, names in HEADINGS.items() for name in names}
    listed: list[CommandInfo | TyperInfo] = [*app.registered_commands, *app.registered_groups]
    for one in listed:
        one.rich_help_panel = headings[str(one.name or getattr(one.callback, "__name__", ""))]
