"""What is open for long in a pod is found and said, whoever left it: a session, or a transaction that was prepared."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from stack.looking.outages import outage
from stack.servers import bootstrap
from stack.servers.postgres import EmbeddedPostgres
from streams.holders import open_transactions


def test_forgotten_transactions_are_named_with_what_ends_them(session_folder: Path) -> None:
    folder = session_folder / "holders"
    server = EmbeddedPostgres(name="holders", folder=folder, log=folder.with_suffix(".log"), is_durable=False)
    server.start()
    try:
        with psycopg.connect(server.superuser_dsn(), autocommit=True) as owner:
            owner.execute("alter system set max_prepared_transactions = 2")
            owner.execute("alter system set max_connections = 12")
        server.stop()
        server.start()
        passwords = dict.fromkeys(bootstrap.POD_ROLES, "secret")
        bootstrap.prepare_pod(server.superuser_dsn(), passwords)
        reader, app = (server.dsn(role, "secret", bootstrap.POD_DATABASE) for role in ("tieout_reader", "tieout_app"))
        with psycopg.connect(server.superuser_dsn(bootstrap.POD_DATABASE)) as preparing:
            preparing.execute("select pg_current_xact_id()")
            preparing.execute("prepare transaction 'nightly''s'")
        with psycopg.connect(make_conninfo(app, application_name="checkout 7")) as left:
            left.execute("select pg_current_xact_id()")
            process_id = left.info.backend_pid
            found = open_transactions(reader, seconds_min=0.0)
            assert open_transactions(reader) == []
        assert [(one.what, one.whose, one.to_end_it) for one in found] == [
            ("prepared transaction nightly's", "postgres",
             "commit prepared 'nightly''s'; or rollback prepared 'nightly''s';"),
            (f"session {process_id}, idle in transaction", "tieout_app, checkout 7",
             f"select pg_terminate_backend({process_id});"),
        ]  # fmt: skip
        assert all(one.seconds > 0 for one in found)
        with ExitStack() as taken:
            with pytest.raises(psycopg.OperationalError, match="remaining connection slots") as refused:
                for _ in range(12):
                    taken.enter_context(psycopg.connect(app))
            assert "has no connection left" in (outage(refused.value) or "")
            assert len(open_transactions(reader, seconds_min=0.0)) >= 1
    finally:
        server.stop()
