"""Commands on API keys: who may ask the HTTP interface, and as what.

Belongs here: `tieout keys ...` and what it prints. Does not belong here: the keys (`api/keys/`), those that a stack
begins with (`stack/composition/keys.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from cli.console import ConsoleProgress, answers, print_json, table
from cli.conventions import AsJson
from cli.saying import is_name
from contracts.clock import utc_now
from contracts.errors import NotFoundError
from stack.composition import session

if TYPE_CHECKING:
    from api.keys.store import Key, KeyStore, Made

Merchant = Annotated[str | None, typer.Option("--merchant", help="The merchant's id; none for a key of an operator.")]
KeyId = Annotated[str, typer.Argument(help="The id in the key's beginning, as `tieout keys list` shows it.")]
AsText = Annotated[bool, typer.Option("--text", help="Print the key alone, for a script.")]

commands = typer.Typer(
    invoke_without_command=True,
    help="API keys of the HTTP interface; without a command: those that this stack began with.",
)


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    commands.callback()(shown)
    for name, command in (("create", create), ("list", list_keys), ("rotate", rotate), ("revoke", revoke)):
        commands.command(name=name)(command)
    app.add_typer(commands, name="keys")


def shown(
    ctx: typer.Context,
    role: Annotated[str | None, typer.Option(help="Only keys of this role.")] = None,
    merchant: Merchant = None,
    text: AsText = False,
    as_json: AsJson = False,
) -> None:
    """Show the keys that this stack made for its shops when it started for the first time, with their texts.

    They are kept in a file that only its owner may read. Keys that you make are shown once.
    """
    if ctx.invoked_subcommand is not None:
        return
    from stack.composition.keys import first_keys

    values = session.settings_here()
    found = [key for key in first_keys(values) if role in (None, str(key.role)) and merchant in (None, key.merchant_id)]
    if not found:
        raise NotFoundError("There are no such keys here; make one with `tieout keys create`.")
    if text:
        typer.echo(found[0].text)
    elif as_json:
        print_json({"keys": [msgspec.to_builtins(key) for key in found]})
    else:
        for key in found:
            # No table: a key must be on one line, however narrow the terminal is.
            typer.echo(f"{key.role:<12}{key.merchant_id or '-':<24}{key.text}")


def create(
    role: Annotated[str, typer.Option(help="storefront, admin or operator.")],
    label: Annotated[str, typer.Option(callback=is_name, help="Who or what uses the key.")],
    merchant: Merchant = None,
    text: AsText = False,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it. Nobody can read it later: only a digest is stored."""
    from api.declaring import Role

    if role not in list(Role):
        raise typer.BadParameter(f"{role} is no role; there are {', '.join(Role)}.")
    with _store() as store:
        _show_made(store.create(Role(role), merchant, label), text=text, as_json=as_json)


def rotate(
    key_id: KeyId,
    overlap_hours: Annotated[float, typer.Option(min=0, help="How long the old key still works.")] = 24.0,
    text: AsText = False,
    as_json: AsJson = False,
) -> None:
    """Make a key that takes another one's place and print it; the old one still works for a while."""
    with _store() as store:
        _show_made(store.rotate(key_id, overlap=timedelta(hours=overlap_hours)), text=text, as_json=as_json)


def revoke(key_id: KeyId, as_json: AsJson = False) -> None:
    """Let a key open nothing any more, within a second."""
    with _store() as store:
        key = store.revoke(key_id).key
    if as_json:
        print_json(_json(key))
    else:
        answers().print(f"{key.readable} opens nothing any more.", markup=False)


def list_keys(merchant: Merchant = None, as_json: AsJson = False) -> None:
    """List the keys, without their secrets; revoked ones, too."""
    with _store() as store:
        found = store.keys(merchant)
    if as_json:
        print_json({"keys": [_json(key) for key in found]})
        return
    now = utc_now()
    rows = [
        (
            key.readable,
            key.merchant_id or "-",
            key.label,
            "valid" if key.is_valid(now) else "revoked" if key.revoked_at else "expired",
            f"{key.created_at:%F %T}",
            f"{key.expires_at:%F %T}" if key.expires_at else "-",
            f"{key.last_used_at:%F %R}" if key.last_used_at else "never",
        )
        for key in found
    ]
    headings = ("Key", "Merchant", "Label", "State", "Made (UTC)", "Expires", "Last used")
    answers().print(table("API keys", headings, rows))


@contextmanager
def _store() -> Iterator[KeyStore]:
    from stack.composition.keys import key_store

    with session.open_session(ConsoleProgress()) as values:
        yield key_store(values)


def _show_made(made: Made, *, text: bool, as_json: bool) -> None:
    if text:
        typer.echo(made.text)
    elif as_json:
        print_json({**_json(made.key), "text": made.text})
    else:
        typer.echo(f"{made.text}\nKeep it: it is shown this once.")


def _json(key: Key) -> dict[str, Any]:
    moments = ("created_at", "expires_at", "revoked_at", "last_used_at")
    times = {name: value.isoformat() if (value := getattr(key, name)) else None for name in moments}
    who = {"key_id": key.key_id, "readable": key.readable, "role": str(key.role), "merchant_id": key.merchant_id}
    return {**who, "label": key.label, **times}
