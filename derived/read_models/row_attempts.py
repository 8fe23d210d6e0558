"""Writes staged rows so that those that the database refuses are found in one round trip.

A function in the session's temporary schema goes over the staged rows: first a block of them in one statement; only if
this block is refused, each of its rows alone. Belongs here: staging, and that function. Does not belong here: what is
done with refused rows (`refused_events.py`), statements without refusals (`row_statements.py`).
"""

from __future__ import annotations

from psycopg import sql

from derived.keyed.rows import Child, Content, Root
from derived.postgres_errors import CONTENT_CLASSES
from derived.read_models import row_statements
from derived.read_models.row_statements import Cursor

BLOCK_ROWS = 64
"""Rows that are tried together: while a block is accepted, its rows cost little more than in one large statement."""

# A row is known by its place (ctid): rows of one COPY are in the order of their places. An error that is not about
# content ends the function, and with it everything that it has written. The planner's settings: a temporary table has
# no statistics, and without them it would read all staged parts for every row.
TRY = """
create function {function}(content_classes text[]) returns table (merchant text, identifier text, refusal text)
language plpgsql set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $body$
declare
    places tid[] := array(select ctid from {staging} order by ctid);
    waiting tid[];
    one tid;
begin
    for start in 1 .. cardinality(places) by {block} loop
        waiting := places[start : start + {block} - 1];
        begin
            perform {write}(waiting);
        exception when assert_failure or others then
            if left(sqlstate, 2) <> all (content_classes) then
                raise;
            end if;
            foreach one in array waiting loop
                begin
                    perform {write}(array[one]);
                exception when assert_failure or others then
                    if left(sqlstate, 2) <> all (content_classes) then
                        raise;
                    end if;
                    refusal := sqlerrm;
                    select staged.{merchant_id}, staged.{id} into merchant, identifier
                    from {staging} as staged where staged.ctid = one;
                    return next;
                end;
            end loop;
        end;
    end loop;
end
$body$"""
WRITE = """
create function {write}(places tid[]) returns void language plpgsql as $body$
declare
    merchants text[];
    ids text[];
begin
    with written as ({upsert})
    select array_agg({merchant_id}), array_agg({id}) into merchants, ids from written;
    {children}
end
$body$"""
CHILDREN = """
    if merchants is not null then
        delete from {table} as present using unnest(merchants, ids) as gone (merchant, identifier)
        where present.{merchant_id} = gone.merchant and present.{id} = gone.identifier;
        insert into {table} ({columns})
        select {columns} from {staging} as staged where staged.{id} = any(ids)
        and (staged.{merchant_id}, staged.{id}) in (
            select won.merchant, won.identifier from unnest(merchants, ids) as won (merchant, identifier)
        );
    end if;"""


def prepare(cursor: Cursor, root: Root) -> None:
    """Create what `stage` and `write_staged` need for a root, once per connection, and only if something is refused."""
    exists = "select to_regproc(%s) is not null"
    if cursor.execute(exists, [_function(root).as_string(cursor)]).fetchall()[0][0]:
        return
    merchant, identifier = map(sql.Identifier, root.key_columns)
    named = {"merchant_id": merchant, "id": identifier, "staging": row_statements.staging(root)}
    children: sql.Composable = sql.SQL("")
    if root.child is not None:
        _prepare_child(cursor, root, root.child)
        columns = row_statements.identifiers(root.child.row_type.__struct_fields__)
        parts = named | {"staging": _staging_of(root.child), "columns": columns}
        children = sql.SQL(CHILDREN).format(table=row_statements.name_of(root.child.table), **parts)
    upsert = row_statements.upsert(root, sql.SQL("where ctid = any(places)"))
    cursor.execute(sql.SQL(WRITE).format(write=_write(root), upsert=upsert, children=children, **named))
    block = sql.Literal(BLOCK_ROWS)
    cursor.execute(sql.SQL(TRY).format(function=_function(root), write=_write(root), block=block, **named))


def _prepare_child(cursor: Cursor, root: Root, child: Child) -> None:
    staging = _staging_of(child)
    cursor.execute(
        sql.SQL("create temp table {} (like {}) on commit delete rows").format(
            staging, row_statements.name_of(child.table)
        )
    )
    # A hash index: it also holds ids that are too long for the index of the table.
    cursor.execute(sql.SQL("create index on {} using hash ({})").format(staging, sql.Identifier(root.key_columns[1])))


def stage(cursor: Cursor, root: Root, content: Content) -> None:
    """Add rows to the staging tables; delete the rows of aggregates that are not in the view any more."""
    row_statements.stage(cursor, root, content)
    if root.child is not None and content.children:
        row_statements.copy_rows(cursor, _staging_of(root.child), root.child.row_type, content.children)


def write_staged(cursor: Cursor, root: Root) -> dict[tuple[str, str], str]:
    """Write the staged rows that the database accepts; return the keys of the others with its messages.

    Staging tables are empty afterwards. An error that is not about content is raised unchanged.
    """
    attempt = sql.SQL("select merchant, identifier, refusal from {}(%s)").format(_function(root))
    refused = cursor.execute(attempt, [sorted(CONTENT_CLASSES)]).fetchall()
    row_statements.clear_staging(cursor, root)
    if root.child is not None:
        cursor.execute(sql.SQL("truncate {}").format(_staging_of(root.child)))
    return {(merchant, identifier): refusal for merchant, identifier, refusal in refused}


def _function(root: Root) -> sql.Identifier:
    return sql.Identifier("pg_temp", f"try_{root.table}")


def _write(root: Root) -> sql.Identifier:
    return sql.Identifier("pg_temp", f"write_{root.table}")


def _staging_of(child: Child) -> sql.Identifier:
    return sql.Identifier("pg_temp", f"incoming_{child.table}")
