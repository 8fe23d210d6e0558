"""How much of each limit is used now: disks, the scratch space of comparisons, the log's server.

Belongs here: measuring. Does not belong here: when people are told (`repair/alerts/near_limits.py`).
"""

from __future__ import annotations

import shutil
from contextlib import closing, suppress
from pathlib import Path

from contracts.settings import Settings
from repair.alerts.near_limits import LimitUse

MEGABYTE = 1_000_000


def limit_uses(settings: Settings) -> list[LimitUse]:
    """Return the limits that can be measured from here; what does not answer is left out: its own check says so."""
    found = [*_disks(settings), _scratch(settings)]
    if (log := _log_memory(settings)) is not None:
        found.append(log)
    return found


def _disks(settings: Settings) -> list[LimitUse]:
    """Return the disks below the runtime files, the lake's and its backup's, each once."""
    lake = [] if "://" in settings.lake_data_path else [Path(settings.lake_data_path)]
    by_device: dict[int, LimitUse] = {}
    for path in (settings.var_dir, *lake, settings.lake_backup_path):
        with suppress(OSError):
            usage = shutil.disk_usage(path)
            by_device.setdefault(
                path.stat().st_dev,
                LimitUse(
                    name=f"disk of {path}",
                    # What is kept for root is not free for us.
                    used_mb=(usage.total - usage.free) / MEGABYTE,
                    limit_mb=usage.total / MEGABYTE,
                    advice="Make room there: a full disk stops commits.",
                ),
            )
    return list(by_device.values())


def _scratch(settings: Settings) -> LimitUse:
    used = 0
    for path in settings.scratch_dir.rglob("*"):
        with suppress(OSError):  # a comparison that ends removes its files
            used += path.stat().st_size
    return LimitUse(
        name="scratch space of comparisons",
        used_mb=used / MEGABYTE,
        limit_mb=settings.scratch_disk_mb,
        advice="Raise TIEOUT_SCRATCH_DISK_MB, or look at less at once.",
    )


def _log_memory(settings: Settings) -> LimitUse | None:
    """Return the memory of the log's server against its `maxmemory`, or the machine's where that is not set."""
    import redis

    with suppress(redis.RedisError), closing(redis.Redis.from_url(settings.log_url, socket_timeout=5.0)) as client:
        memory = client.info("memory")
        limit = int(memory.get("maxmemory", 0)) or int(memory.get("total_system_memory", 0))
        return LimitUse(
            name="memory of the log's server",
            used_mb=int(memory["used_memory"]) / MEGABYTE,
            limit_mb=limit / MEGABYTE,
            advice="See which copy is behind: entries go when every copy has applied them. Or raise maxmemory.",
        )
    return None
