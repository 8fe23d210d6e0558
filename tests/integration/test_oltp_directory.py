"""The directory: a merchant lives in one pod, and only there can it be registered."""

from __future__ import annotations

import pytest

from contracts.errors import NotFoundError, PodFencedError, StackError
from contracts.settings import Settings
from oltp.commands.execute import build_command_pod
from oltp.directory import Directory, Placement, assign, migrate_directory, placements, pod_of
from tests.conftest import MakeDatabase
from tests.integration.oltp_pod import register


def test_a_merchant_keeps_the_pod_it_was_first_assigned_to(make_database: MakeDatabase) -> None:
    control = make_database("tieout_control")
    migrate_directory(control)
    migrate_directory(control)
    placed = assign(control, "acme", "pod1")
    assert placed == Placement(merchant_id="acme", pod="pod1", epoch=1)
    assert assign(control, "acme", "pod2") == pod_of(control, "acme") == placed
    assert placements(control) == [placed]
    with pytest.raises(NotFoundError, match="register it first"):
        pod_of(control, "nobody")


def test_a_directory_that_is_away_says_so() -> None:
    with pytest.raises(StackError, match="directory"):
        Directory("postgresql://nobody@127.0.0.1:1/nowhere").assign("acme", "pod1")


def test_a_merchant_registers_in_one_pod_only(settings: Settings) -> None:
    migrate_directory(settings.control_dsn)
    first, second = settings.pods
    with (
        build_command_pod(first, control_dsn=settings.control_dsn) as pod1,
        build_command_pod(second, control_dsn=settings.control_dsn) as pod2,
    ):
        register(pod1)
        with pytest.raises(PodFencedError, match="lives in pod1, not in pod2"):
            register(pod2)
