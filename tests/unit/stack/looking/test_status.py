"""How a copy's standing is put together from what its log and its pod's outbox say."""

from __future__ import annotations

import pytest

from stack.looking.copies import UNREACHABLE, ProjectionStatus
from stack.looking.status import PodStatus, counting_outbox


def view(state: str, seconds: float = 0.0, events: int = 0, name: str = "account_view") -> ProjectionStatus:
    return ProjectionStatus(name=name, pod="pod1", state=state, lag_seconds=seconds, lag_events=events, parked=0)


def pod(events: int | None, seconds: float | None) -> PodStatus:
    return PodStatus(pod="pod1", dsn="", unpublished_events=events, oldest_unpublished_seconds=seconds)


@pytest.mark.parametrize(
    ("seen", "waiting", "expected"),
    [
        (view("current"), pod(996, 50.1), view("behind", 50.1, 996)),
        (view("behind", 3.0, 4), pod(2, 1.0), view("behind", 3.0, 6)),
        (view("gap", 3.0, 4), pod(2, 9.0), view("gap", 9.0, 6)),
        (view("current"), pod(0, 0.0), view("current")),
        (view("current"), pod(None, None), view("current")),
        (view(UNREACHABLE), pod(5, 9.0), view(UNREACHABLE)),
        (view("current", 20.0, 7, "warehouse"), pod(3, 60.0), view("current", 60.0, 10, "warehouse")),
        (view("current", 20.0, 7, "warehouse"), pod(3, 901.0), view("behind", 901.0, 10, "warehouse")),
    ],
)
def test_what_waits_in_the_outbox_counts_for_every_copy(
    seen: ProjectionStatus, waiting: PodStatus, expected: ProjectionStatus
) -> None:
    assert counting_outbox(seen, waiting) == expected
