"""The command `tieout report`: a finance report on the terminal, or as a file.

Belongs here: options, and where the report is written. Does not belong here: making it (`stack/looking/reporting.py`).
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.console import ConsoleProgress, print_text
from contracts.errors import InputError, StackError
from stack.composition import session
from stack.files import write_whole

CERTIFICATE = "certificate.json"
"""A CSV file's certificate is stored beside it, as <name of the CSV file>.certificate.json."""


class Format(StrEnum):
    """The format of a report."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    XLSX = "xlsx"
    HTML = "html"


def add_commands(app: typer.Typer) -> None:
    """Add the command of this module to `app`."""
    app.command(name="report")(report)


def report(
    name: Annotated[str, typer.Argument(help="daily, merchant-payable, tax or trial-balance.")] = "daily",
    as_of: Annotated[
        str | None,
        typer.Option(
            help="What was recorded by then, whatever its business day: 2011-01-31 (its end), a time in UTC, or cuts: "
            "pod1=17,pod2=9."
        ),
    ] = None,
    cut: Annotated[list[str] | None, typer.Option(help="As it stood at this cut, e.g. pod1=17; once per pod.")] = None,
    period: Annotated[
        str | None, typer.Option(help="Of one month, e.g. 2010-12; closed ones as they were closed.")
    ] = None,
    file_format: Annotated[
        Format | None, typer.Option("--format", help="How to write it; by default as the name of --output says.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write it to this file. A CSV file gets its certificate beside it.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Same as --format csv.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Same as --format json: one document, for programs.")] = False,
) -> None:
    """Print a finance report, at the newest build or exactly as it stood earlier, with its tie-out certificate.

    daily: what every merchant sold, captured and gave back, by business day. merchant-payable: what is owed to every
    merchant. tax: by jurisdiction, category and month. trial-balance: every merchant's accounts, which sum to zero.

    The certificate says at which cuts the figures stand, which comparison with operations covers them and what it
    found, which breaks are open or accepted, and the checksum by which `tieout verify` knows the report again.
    """
    from cli.showing import show_statement
    from stack.looking.reporting import check_question, make_report

    chosen = chosen_format(file_format, output, as_csv=as_csv, as_json=as_json)
    check_question(name, as_of=as_of, cuts=cut or [], period=period)
    with session.ended_by_signals(), session.open_session(ConsoleProgress()) as values:
        made = make_report(values, name, as_of=as_of, cuts=cut or [], period=period)
        files = {} if chosen is Format.TABLE else {"": made.file(chosen.value)}
        if chosen is Format.CSV and output is not None:
            files[f".{CERTIFICATE}"] = made.file(CERTIFICATE)
    if made.said:
        ConsoleProgress().note(made.said)
    if output is None:
        _print(files[""]) if files else show_statement(made.statement)
        return
    for ending, data in files.items():
        write_file(output.with_name(output.name + ending), data)
    ConsoleProgress().note(f"{made.statement.title}: {', '.join(str(output) + ending for ending in files)}.")
    ConsoleProgress().note(made.statement.certificate.conclusion)


def chosen_format(chosen: Format | None, output: Path | None, *, as_csv: bool, as_json: bool) -> Format:
    """Return the chosen format; InputError if the options contradict each other or do not name one."""
    named = [item for item, is_named in ((Format.CSV, as_csv), (Format.JSON, as_json)) if is_named]
    wanted = {*named, *([chosen] if chosen else [])}
    if not wanted and output is not None:
        endings = {f".{item.value}": item for item in Format if item is not Format.TABLE}
        ending = output.suffix.lower()
        if ending not in endings:
            raise InputError(
                f"What {output.name} is to be is not clear: end its name in {', '.join(endings)}, or give --format."
            )
        wanted = {endings[ending]}
    if len(wanted) > 1:
        raise InputError(f"Give one format, not {' and '.join(sorted(item.value for item in wanted))}.")
    (found,) = wanted or {Format.TABLE}
    if found is Format.TABLE and output is not None:
        raise InputError("A table is for the terminal; choose csv, json, xlsx or html for a file.")
    if found is Format.XLSX and output is None:
        raise InputError("A spreadsheet is no text; say with --output where to write it.")
    return found


def write_file(path: Path, data: bytes) -> None:
    """Write a file atomically; StackError with the reason if it cannot be written."""
    try:
        write_whole(path, data, is_shared=True)
    except OSError as error:
        raise StackError(f"{path} cannot be written: {error.strerror}.") from None


def _print(data: bytes) -> None:
    print_text(data.decode(), sys.stdout)
