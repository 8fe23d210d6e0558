"""SQL queries that any user may run on the warehouse: read only, as of cuts, within limits.

Belongs here: which names a query may use, that it only reads, its limits. Does not belong here: what a mart means
(dbt_project/models/marts), how the answer is printed (`cli/commands/queries.py`).

There are four layers of protection. First, the query is parsed: it must be one SELECT over the names that are listed
here, so no function can read files, passwords or a catalog. Second, DuckDB has the lake attached read only. Third,
DuckDB may open no files but the lake's, and its settings are locked. Fourth, if a DSN for reading is set, PostgreSQL
refuses writes, too.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import duckdb

from contracts.errors import InputError, WarehouseError
from contracts.ownership import SERVED_TABLES
from contracts.settings import Settings
from derived.lake_connection import LAKE, normal_data_path, open_lake, open_parser, quote, scrub
from derived.lake_schema import EVENTS
from derived.reports import MARTS, standing_at, standing_cuts

Connection = duckdb.DuckDBPyConnection

EVENTS_NAME = "events"
"""The lake's events up to the cuts."""

VIEWS = SERVED_TABLES
"""Tables of the read models: as of now, not as of a cut. A test checks this list against their migrations."""

TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "json_each", "json_tree"})
"""These functions make rows only from their arguments."""

SHOWN = frozenset({'"tables"'})
"""The names that SHOW may list."""

ONE_SELECT = "A query is one SELECT (or FROM, WITH, VALUES, DESCRIBE, SHOW TABLES): here everything is read only."


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a query."""

    rows_max: int = 1_000
    seconds_max: float = 60.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The result of a query. Amounts are integers; each column's name ends with the unit."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    is_cut_off: bool
    """Whether there are more rows than `rows_max`."""
    cuts: Mapping[str, int]
    """Pod -> cut at which marts and events are read."""
    build_id: str
    views: tuple[str, ...]
    """Read models that the query names: they are read as of now."""


def ask(
    settings: Settings, query: str, *, cuts: Mapping[str, int] | None = None, limits: Limits | None = None
) -> Answer:
    """Return the result of a query at `cuts` (pod -> cut; a pod without one shows nothing), else at the newest build's.

    Raises InputError if the query is not allowed, wrong or too slow; WarehouseError if nothing is built or a store does
    not answer.
    """
    wanted = limits or Limits()
    names = checked_names(query)
    views = tuple(sorted(names & set(VIEWS)))
    with _reading(settings) as lake:
        build_id, standing = standing_cuts(lake, cuts)
        _show(lake, settings, standing, views)
        _close_in(lake, settings.lake_data_path)
        with standing_at(lake, standing), _within(lake, wanted.seconds_max):
            columns, rows = _rows(lake, query, wanted.rows_max + 1)
    return Answer(
        columns=columns,
        rows=rows[: wanted.rows_max],
        is_cut_off=len(rows) > wanted.rows_max,
        cuts=standing,
        build_id=build_id,
        views=views,
    )


def checked_names(query: str) -> frozenset[str]:
    """Return the tables that a query names; InputError if it is not one SELECT over allowed names."""
    return frozenset(_checked(_parsed(query), frozenset()))


def _checked(part: Any, own: frozenset[str]) -> Iterator[str]:
    """Yield the tables that a part of a parsed query names; `own` are the names that an enclosing WITH defines.

    A WITH name counts only where DuckDB resolves it to that WITH: elsewhere it could mean one of DuckDB's own tables.
    """
    if isinstance(part, list):
        for one in part:
            yield from _checked(one, own)
    if not isinstance(part, dict):
        return
    for entry in _entries_of(part):
        yield from _checked(entry["value"], own)
        own |= {entry["key"].lower()}
    yield from _named_here(part, own)
    for name, child in part.items():
        is_step = part.get("type") == "RECURSIVE_CTE_NODE" and name == "right"
        if name != "cte_map":
            yield from _checked(child, own | {str(part["cte_name"]).lower()} if is_step else own)


def _named_here(node: Mapping[str, Any], own: frozenset[str]) -> Iterator[str]:
    kind = node.get("type")
    if kind == "BASE_TABLE":
        yield _checked_table(node, own)
    elif kind == "TABLE_FUNCTION" and (name := node["function"]["function_name"]) not in TABLE_FUNCTIONS:
        raise InputError(f"The function {name} is not for queries; a query reads {_readable()}.")
    elif kind == "SHOW_REF" and node["query"] is None and node["table_name"] not in SHOWN:
        raise InputError(f"SHOW can list TABLES only; a query reads {_readable()}.")


def _parsed(query: str) -> Any:
    with open_parser() as parser:
        try:
            statements = parser.extract_statements(query)
            ((text,),) = parser.execute("select json_serialize_sql($query)", {"query": query}).fetchall()
        except duckdb.Error as error:
            raise InputError(f"The query cannot be read: {_first_lines(error)}") from None
    tree = json.loads(text)
    if len(statements) != 1 or tree["error"]:
        raise InputError(ONE_SELECT)
    return tree["statements"]


def _entries_of(node: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the queries that WITH names in a node."""
    named = node.get("cte_map")
    return list(named["map"]) if isinstance(named, dict) else []


def _checked_table(node: Mapping[str, Any], own: frozenset[str]) -> str:
    place = (str(node["catalog_name"]), str(node["schema_name"]))
    name = str(node["table_name"])
    lower = name.lower()
    if node.get("at_clause") is not None:
        raise InputError("AT is not for queries: say as of which cut with --cut.")
    if place == ("", "") and lower in own:
        return lower
    known: dict[str, tuple[tuple[str, str], ...]] = {mart: (("", ""), ("", "marts"), (LAKE, "marts")) for mart in MARTS}
    known |= {other: (("", ""),) for other in (EVENTS_NAME, *VIEWS)}
    if place not in known.get(lower, ()):
        given = ".".join(part for part in (*place, name) if part)
        raise InputError(f"There is no {given} here; there are {_readable()}.")
    return lower


def _readable() -> str:
    return f"the marts {', '.join(MARTS)}; the lake's {EVENTS_NAME}; the read models {', '.join(VIEWS)}"


@contextmanager
def _reading(settings: Settings) -> Iterator[Connection]:
    """Give a connection to the lake with the read-only role, if one is set."""
    reader = replace(settings, catalog_dsn=settings.catalog_reader_dsn or settings.catalog_dsn)
    try:
        with open_lake(reader, read_only=True) as lake:
            yield lake
    except duckdb.InterruptException:
        raise
    except (duckdb.IOException, duckdb.HTTPException, duckdb.OperationalError) as error:
        said = scrub(ValueError(scrub(error, reader.catalog_dsn)), settings.read_models_dsn)
        raise WarehouseError(f"The query could not be answered: {said}") from None
    except duckdb.Error as error:
        raise InputError(f"The query cannot be answered: {_first_lines(error)}") from None


def _show(lake: Connection, settings: Settings, cuts: Mapping[str, int], views: Sequence[str]) -> None:
    """Define names without a schema: marts, events up to the cuts, and the read models that the query names."""
    known = " or ".join(f"(pod = {quote(pod)} and cut <= {int(cut)})" for pod, cut in cuts.items()) or "false"
    lake.execute(f"create view memory.main.{EVENTS_NAME} as select * from {EVENTS} where {known}")
    if views:
        dsn = settings.read_models_reader_dsn or settings.read_models_dsn
        try:
            lake.execute(f"attach {quote(dsn)} as read_models (type postgres, read_only)")
        except duckdb.Error as error:
            raise WarehouseError(f"The read models could not be reached: {scrub(error, dsn)}") from None
    for view in views:
        lake.execute(f"create view memory.main.{view} as select * from read_models.read_models.{view}")
    lake.execute(f"set search_path = '{LAKE}.marts,memory.main'")


def _close_in(lake: Connection, data_path: str) -> None:
    """Restrict the connection to the lake's files, and lock its settings."""
    lake.execute(f"set allowed_directories = [{quote(normal_data_path(data_path))}]")
    lake.execute("set enable_external_access = false")
    lake.execute("set python_enable_replacements = false")
    lake.execute("set lock_configuration = true")


@contextmanager
def _within(lake: Connection, seconds_max: float) -> Iterator[None]:
    """Interrupt the block's query if it takes too long; InputError then."""
    timer = threading.Timer(seconds_max, lake.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    except duckdb.InterruptException:
        raise InputError(
            f"The query took longer than {seconds_max:g} seconds, and was ended; ask for less, or give it --seconds."
        ) from None
    finally:
        timer.cancel()


def _rows(lake: Connection, query: str, rows_max: int) -> tuple[tuple[str, ...], tuple[tuple[object, ...], ...]]:
    """Return a query's columns and its first rows; DuckDB does not compute the others if it can avoid it."""
    found = lake.execute(query)
    columns = tuple(str(column[0]) for column in found.description or ())
    return columns, tuple(tuple(row) for row in found.fetchmany(rows_max))


def _first_lines(error: Exception) -> str:
    """Return DuckDB's message about a query on one line, without the picture of the position."""
    text = str(error).split("\n\n")[0]
    return " ".join(text.split())[:400]
