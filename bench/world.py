"""A separate system for a benchmark: servers and workers in a temporary folder, which is deleted afterwards.

Belongs here: starting and stopping the system. Does not belong here: what is measured on it.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.several_taxes import sell_with_several_taxes
from contracts.events.adjustment import AdjustmentKind
from contracts.settings import Settings, parse_settings
from oltp.commands.book_adjustment import BookAdjustment
from oltp.commands.execute import build_command_pod, execute
from oltp.directory import placements
from stack.composition import session
from stack.composition.draining import drain_everything
from stack.composition.migrations import migrate_everything
from stack.processes.supervision import Program, Supervisor
from stack.processes.workers import TRAFFIC, propagation_programs
from stack.servers.embedded import embedded_servers
from stack.settings import ROOT, write_settings_file
from traffic.generator import place_orders

ADJUSTMENTS = 4
"""The number of adjustments that `trade` books for every merchant."""


@contextmanager
def running_system(*, orders_per_second: float = 0.0) -> Iterator[Settings]:
    """Run servers, workers and, if the rate is above 0, live traffic; yield the settings; delete all afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="tieout-bench-"))
    folder.chmod(0o711)
    servers = embedded_servers(folder)
    with ExitStack() as stack:
        stack.enter_context(session.ended_by_signals())
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(servers.wipe)
        stack.callback(servers.stop)
        values = servers.start()
        write_settings_file(folder, values)
        settings = parse_settings({**values, "TIEOUT_VAR_DIR": str(folder)})
        migrate_everything(settings)
        programs = propagation_programs(settings)
        if orders_per_second > 0:
            programs.append(_traffic(settings, orders_per_second))
        supervisor = Supervisor(var_dir=folder)
        stack.callback(session.stop_marked, folder)
        stack.callback(supervisor.stop)
        supervisor.start(programs, directory=ROOT)
        yield settings


def _traffic(settings: Settings, orders_per_second: float) -> Program:
    command = [sys.executable, "-P", "-m", "stack.upkeep.worker", "traffic", "--rate", str(orders_per_second)]
    return Program(name=TRAFFIC, command=command, environment={"TIEOUT_VAR_DIR": str(settings.var_dir)})


def trade(settings: Settings, *, orders: int, seed: int, processes: int | None = None) -> None:
    """Place orders with all their events, some with several taxes, and book adjustments.

    `processes`: as in `place_orders`; use 0 for a few orders, because starting processes takes longer.
    """
    place_orders(settings, orders=orders, seed=seed, processes=processes)
    homes = {placement.merchant_id: placement.pod for placement in placements(settings.control_dsn)}
    for pod in settings.pods:
        with build_command_pod(pod, connections_max=1) as commands:
            for merchant_id in sorted(merchant for merchant, home in homes.items() if home == pod.pod):
                for number in range(ADJUSTMENTS):
                    execute(commands, _adjustment(merchant_id, number), idempotency_key=f"trade/{merchant_id}/{number}")
        sell_with_several_taxes(pod, settings.control_dsn)
    drain_everything(settings)


def _adjustment(merchant_id: str, number: int) -> BookAdjustment:
    return BookAdjustment(
        merchant_id=merchant_id,
        kind=AdjustmentKind.FEE,
        currency="GBP",
        amount_micro=-1_000_000 * (number + 1),
        quantity=1,
        sku=None,
        customer_id=None,
        external_reference=None,
        reason="monthly fee",
        source="bench",
    )
