from __future__ import annotations

import psycopg

from contracts.settings import Settings
from traffic.generator import place_orders
from traffic.statistics import GrowingTables


def test_the_role_of_commands_may_analyze_what_has_grown(books: Settings) -> None:
    place_orders(books, orders=25, seed=1, processes=0)
    analyzed = "select count(last_analyze) from pg_stat_user_tables where relname = 'order_lines'"
    with GrowingTables(books.pods[:1]) as statistics:
        statistics.grown_to(25)
    with psycopg.connect(books.pods[0].reader_dsn) as connection:
        assert connection.execute(analyzed).fetchone() == (1,)
