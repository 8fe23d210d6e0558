"""Ages of events are told by the clock of the database that recorded them, whatever the clock of the machine says."""

from __future__ import annotations

from datetime import timedelta

import pytest

from contracts.clock import utc_now
from streams.clocks import database_clock
from tests.conftest import MakeDatabase


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_clock_that_is_hours_away_tells_the_databases_time(make_database: MakeDatabase, hours: int) -> None:
    def wrong() -> object:
        return utc_now() + timedelta(hours=hours)

    asked = database_clock(make_database(), clock=wrong)  # type: ignore[arg-type]
    assert abs(asked() - utc_now()) < timedelta(minutes=10)


def test_without_the_database_the_machines_clock_has_to_do() -> None:
    moment = utc_now()
    assert database_clock("postgresql://nobody@127.0.0.1:1/none", clock=lambda: moment)() == moment
