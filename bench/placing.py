"""Places orders on a server of its own, with the code of the tree that it is started in, as often as it is told to.

    cd TREE; PYTHONPATH=TREE python -P bench/placing.py LINES SKUS

Reads numbers from standard input, one a line; for each it places so many orders, one after the other, and writes the
processor seconds of this process and of PostgreSQL as a JSON list. Belongs here: only what older commits have, too,
since `bench/place_order.py` runs this file in such a tree. Does not belong here: comparing.
"""

from __future__ import annotations

import json
import resource
import sys
import uuid

import psutil

from bench.commands import bench_pod, open_shop, place
from oltp.commands.execute import CommandPod, build_command_pod, execute


def main() -> None:
    """Serve measurements until the input ends."""
    lines, skus = (int(argument) for argument in sys.argv[1:])
    with bench_pod() as settings, build_command_pod(settings, connections_max=1) as pod:
        open_shop(pod, skus)
        with pod.connections.connection() as connection:
            backend = psutil.Process(connection.info.backend_pid)
        first = 0
        print(json.dumps("ready"), flush=True)
        for line in sys.stdin:
            number = int(line)
            before = _seconds(backend)
            for index in range(first, first + number):
                _place(pod, index, lines, skus)
            first += number
            after = _seconds(backend)
            print(json.dumps([end - start for start, end in zip(before, after, strict=True)]), flush=True)


def _place(pod: CommandPod, index: int, lines: int, skus: int) -> None:
    key = str(uuid.uuid4())
    items = [(index * lines + line) % skus for line in range(lines)]
    execute(pod, place(items, key), idempotency_key=key)


def _seconds(backend: psutil.Process) -> tuple[float, float]:
    """Return the processor seconds of this process and of the one backend that serves it."""
    used, behind = resource.getrusage(resource.RUSAGE_SELF), backend.cpu_times()
    return used.ru_utime + used.ru_stime, behind.user + behind.system


if __name__ == "__main__":
    main()
