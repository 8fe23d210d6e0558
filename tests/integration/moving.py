"""Moves a merchant to the other pod, for tests: what is compared and repaired when that has happened."""

from __future__ import annotations

import psycopg
from psycopg import sql

from contracts.settings import Settings
from tests.conftest import Cluster

OF_THE_POD = ("outbox", "residents", "idempotency_keys", "provider_calls", "provider_notifications")
"""Tables that stay behind."""


def move(settings: Settings, postgres: Cluster, merchant_id: str) -> None:
    """Do to two pods what moving a merchant will do: its rows stand in pod2, too, and it lives there."""
    old, new = (
        psycopg.connect(postgres.superuser_dsn(str(psycopg.conninfo.conninfo_to_dict(pod.owner_dsn)["dbname"])))
        for pod in settings.pods
    )
    with old, new:
        new.execute("set session_replication_role = replica")
        tables = old.execute(
            """select c.table_name from information_schema.columns as c
               join information_schema.tables as t using (table_schema, table_name)
               where c.table_schema = 'oltp' and c.column_name = 'merchant_id' and t.table_type = 'BASE TABLE'
                 and c.table_name <> all(%s)""",
            [list(OF_THE_POD)],
        ).fetchall()
        for (name,) in tables:
            rows = sql.SQL("copy (select * from oltp.{} where merchant_id = {}) to stdout").format(
                sql.Identifier(name), sql.Literal(merchant_id)
            )
            into = sql.SQL("copy oltp.{} from stdin").format(sql.Identifier(name))
            with old.cursor() as source, new.cursor() as target, source.copy(rows) as out, target.copy(into) as taken:
                for data in out:
                    taken.write(data)
        old.execute("delete from oltp.residents where merchant_id = %s", [merchant_id])
        new.execute("insert into oltp.residents values (%s, 2)", [merchant_id])
