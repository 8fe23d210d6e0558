"""The commands `tieout sql`, `psql` and `valkey`: SQL over the marts as of cuts, and direct access to the servers.

Belongs here: options, and what is printed. Does not belong here: what a query may do (`derived/querying.py`).
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.confirming import DryRun, Intent, Yes, is_agreed
from cli.console import ConsoleProgress, answers, print_json, print_text, table
from cli.conventions import AsJson
from contracts.errors import InputError, StackError
from contracts.ownership import SERVED_TABLES
from contracts.settings import POD_ROLES, Settings
from contracts.text import counted
from stack.composition import session

if TYPE_CHECKING:
    from derived.querying import Answer

READ_ONLY = "-c default_transaction_read_only=on"
HIDDEN = "***"


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command(name="sql", help=(sql.__doc__ or "").format(read_models=", ".join(SERVED_TABLES)))(sql)
    app.command(name="psql")(psql)
    app.command(name="valkey")(valkey)


def sql(
    query: Annotated[str | None, typer.Argument(help='One SELECT, e.g. "select count(*) from orders".')] = None,
    cut: Annotated[list[str] | None, typer.Option(help="As it stood at this cut, e.g. pod1=17; once per pod.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Show at most so many rows.")] = 1_000,
    seconds: Annotated[float, typer.Option(min=0.001, help="End the query when it takes longer.")] = 60.0,
    as_csv: Annotated[bool, typer.Option("--csv", help="Answer as CSV.")] = False,
    as_json: AsJson = False,
    attach: Annotated[bool, typer.Option("--attach", help="Say how another program attaches the same tables.")] = False,
    with_password: Annotated[bool, typer.Option("--with-password", help="With --attach: passwords, too.")] = False,
) -> None:
    """Ask the warehouse in SQL (DuckDB's), at the newest complete build or exactly as it stood earlier. Read only.

    Marts: adjustments, daily_sales, entitlements, fulfillments, gift_cards, inventory_movements, journal,
    merchant_payable, merchants, order_lines, orders, payment_captures, payments, product_variants, refund_lines,
    refunds, reservations, tax_by_jurisdiction, tax_lines, trial_balance. Every event up to the cuts: events. Read
    models, as they are now: {read_models}. Columns of one: "describe orders". Amounts are integers; the unit ends each
    column's name. In JSON: cuts, build_id, columns, rows (lists in their order), is_cut_off, views.
    """
    from derived.querying import Limits, ask
    from stack.looking.as_of import check_asked, wanted_cuts

    if (query is None) != attach:
        raise InputError("Give one query, or --attach to see how another program gets to the tables.")
    if as_csv and as_json:
        raise InputError("Give one format, not csv and json.")
    check_asked(None, cut or [])
    with session.ended_by_signals(), session.open_session(ConsoleProgress()) as values:
        wanted = wanted_cuts(values, None, cut or [])
        if query is None:
            print_text(_attaching(values, wanted.cuts if wanted else None, is_open=with_password), sys.stdout)
            return
        answer = ask(
            values, query, cuts=wanted.cuts if wanted else None, limits=Limits(rows_max=rows, seconds_max=seconds)
        )
    if as_json:
        print_json(_document(answer))
    elif as_csv:
        print_text(_csv(answer), sys.stdout)
    else:
        _show(answer)
    if not as_json:
        ConsoleProgress().note(_standing(answer))


def _document(answer: Answer) -> dict[str, Any]:
    return {
        "cuts": answer.cuts,
        "build_id": answer.build_id,
        "columns": answer.columns,
        "rows": answer.rows,
        "is_cut_off": answer.is_cut_off,
        "views": answer.views,
    }


def _csv(answer: Answer) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(answer.columns)
    writer.writerows(answer.rows)
    return text.getvalue()


def _show(answer: Answer) -> None:
    shown = [["" if value is None else value for value in row] for row in answer.rows]
    made = table("", answer.columns, shown, numbers_from=len(answer.columns))
    for index, column in enumerate(made.columns):
        values = [row[index] for row in answer.rows if row[index] is not None]
        if values and all(isinstance(value, int | float) for value in values):
            column.justify = "right"
    answers().print(made)


def _standing(answer: Answer) -> str:
    """Return the number of shown rows, and the cuts and the build of the answer."""
    cuts = ", ".join(f"{pod} at cut {cut}" for pod, cut in sorted(answer.cuts.items()))
    shown = counted(len(answer.rows), "row")
    more = " are shown, and there are more: raise --rows, or count them in the query" if answer.is_cut_off else ""
    live = f" {', '.join(answer.views)}: as they are now." if answer.views else ""
    return f"{shown}{more}. As of {cuts} (build {answer.build_id}).{live}"


def _attaching(values: Settings, cuts: Any, *, is_open: bool) -> str:
    """Return the statements that attach the same tables in another DuckDB, by a role that may only read."""
    from psycopg.conninfo import conninfo_to_dict

    from derived.lake_connection import normal_data_path, open_lake, quote
    from derived.reports import standing_cuts

    if not values.catalog_reader_dsn:
        raise InputError(
            "No role is set that may only read: create one (docs/how-to/query.md), and name it in "
            "TIEOUT_CATALOG_READER_DSN and TIEOUT_READ_MODELS_READER_DSN."
        )
    with open_lake(values, read_only=True) as lake:
        build_id, standing = standing_cuts(lake, cuts)

    def libpq(dsn: str) -> str:
        parts = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
        if "password" in parts and not is_open:
            parts["password"] = HIDDEN
        return " ".join(f"{name}={value}" for name, value in parts.items())

    lines = [f"-- Marts as of build {build_id}; without `as_of` they show the present, also of a build under way."]
    if store := values.object_store:
        shown = store if is_open else type(store)(**{**vars(store), "secret": HIDDEN})
        lines += [f"{one};" for one in shown.secret_statements([normal_data_path(values.lake_data_path)])]
    names, numbers = [quote(pod) for pod in standing], [str(int(cut)) for cut in standing.values()]
    lines += [
        f"attach {quote('ducklake:postgres:' + libpq(values.catalog_reader_dsn))} as lake "
        f"(data_path {quote(normal_data_path(values.lake_data_path))}, read_only);",
        f"attach {quote(libpq(values.read_models_reader_dsn or values.catalog_reader_dsn))} as read_models "
        "(type postgres, read_only);",
        f"set variable as_of = map([{', '.join(names)}], [{', '.join(numbers)}]::bigint[]);",
        "use lake.marts;",
    ]
    return "\n".join(lines) + "\n"


def psql(
    server: Annotated[str, typer.Argument(help="A pod, e.g. pod1; or control, catalog, read-models, dagster.")],
    role: Annotated[
        str, typer.Option(help="reader (may only read), or what writes: relay, app, owner; owner for other servers.")
    ] = "reader",
    arguments: Annotated[
        list[str] | None, typer.Argument(help='For psql itself, behind --, e.g. -- -c "select 1".')
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Open psql on a database of this deployment, by the role that may only read unless another one is named.

    The password goes to psql in its environment, and stands in no list of processes. A role that may write is asked
    for first: what is changed by hand goes past commands, outbox and audit, and comparisons will find it.
    """
    values = session.settings_here()
    dsn = _dsn(values, server, role)
    intent = _reading(server) if role == "reader" else _writing(server, role)
    if (dry_run or role != "reader") and not is_agreed(intent, is_yes=yes, is_dry_run=dry_run):
        return
    program = _program()
    try:
        os.execve(program, [program, *(arguments or [])], _environment(dsn, is_reading=role == "reader"))
    except OSError as error:
        raise StackError(f"{program} could not be started: {error.strerror}.") from None


def valkey(
    words: Annotated[
        list[str],
        typer.Argument(metavar="COMMAND...", help="One command of its own, e.g. info memory; - needs -- before."),
    ],
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Send the log's server one command and print its answer: for machines without its client.

    What only reads is sent at once: info memory, config get maxmemory, xlen ... Everything else is asked for first:
    what is changed by hand goes past the relay, and comparisons find it. More memory: config set maxmemory 2gb.
    """
    from streams.logs import build_log

    with closing(build_log(session.settings_here())) as log:
        is_asked = dry_run or not log.is_reading(words)
        if is_asked and not is_agreed(_sending(words), is_yes=yes, is_dry_run=dry_run):
            return
        print_text("".join(f"{line}\n" for line in log.ask(words)), sys.stdout)


def _sending(words: Sequence[str]) -> Intent:
    return Intent(
        what=f"The log's server is sent: {' '.join(words)}",
        question="Send it?",
        details=["Entries that are changed or deleted by hand go past the relay, and comparisons find them."],
        document={"command": list(words)},
    )


def _dsn(values: Settings, server: str, role: str) -> str:
    """Return the DSN of a database for a role; InputError names the known ones."""
    others = {
        "control": {"owner": values.control_dsn},
        "catalog": {"reader": values.catalog_reader_dsn, "owner": values.catalog_dsn},
        "read-models": {"reader": values.read_models_reader_dsn, "owner": values.read_models_dsn},
        "dagster": {"owner": values.dagster_dsn},
    }
    known = {pod.pod: {name: str(getattr(pod, f"{name}_dsn")) for name in POD_ROLES} for pod in values.pods} | others
    if server not in known:
        raise InputError(f"There is no {server!r}; there are {', '.join(known)}.")
    roles = {name: dsn for name, dsn in known[server].items() if dsn}
    if role not in roles:
        raise InputError(f"{server} has no role {role!r} here; it has {', '.join(sorted(roles))} (--role).")
    return roles[role]


def _reading(server: str) -> Intent:
    return Intent(what=f"psql is opened on {server} by the role reader, which may only read.", question="")


def _writing(server: str, role: str) -> Intent:
    return Intent(
        what=f"psql is opened on {server} by the role {role}, which may change what is there.",
        question=f"Open {server} for writing?",
        details=[
            "What is changed by hand goes past commands, outbox and audit: no event tells of it, and comparisons find "
            "it as a difference.",
            "`tieout repair` mends copies; for the truth itself there are commands.",
        ],
        document={"server": server, "role": role},
    )


def _environment(dsn: str, *, is_reading: bool) -> dict[str, str]:
    """Return this process's environment, with libpq's variables for this DSN, the password included."""
    from psycopg.pq import Conninfo

    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "TIEOUT_"))}
    parts = [option for option in Conninfo.parse(dsn.encode()) if option.envvar and option.val is not None]
    given = {(option.envvar or b"").decode(): (option.val or b"").decode() for option in parts}
    options = f"{given.get('PGOPTIONS', '')} {READ_ONLY if is_reading else ''}".strip()
    return {**kept, "PGAPPNAME": "tieout psql", **given, **({"PGOPTIONS": options} if options else {})}


def _program() -> str:
    """Return the path of psql: the embedded server's, else the one in PATH."""
    from stack.servers.postgres import own_psql

    program = own_psql() or shutil.which("psql")
    if program is None:
        raise StackError("There is no psql here: install PostgreSQL's client, e.g. the package postgresql-client.")
    return program
