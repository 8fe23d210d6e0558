"""Settings: parsed once, at an entry point, from a mapping of strings into one frozen value.

Belongs here: what can be set, its default and its check. Does not belong here: reading the environment or a file
(`stack/settings.py` does that and passes the mapping in).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from contracts.carts import CART_AGE_DAYS, CART_WRITE_MS, CARTS_QUEUED_MAX
from contracts.errors import SettingsError
from contracts.object_store import ObjectFolder, ObjectStore, checked_prefix, is_object_path

LAKE_MEMORY_MB = 1_000
LAKE_THREADS = 2
"""Default limits of DuckDB in processes that read or write the lake. What needs more memory spills to disk."""
MEMORY_MB_MIN = 192
"""The least memory limit that DuckDB can work with: one part of a partitioned operation needs this much."""
REPAIRER_MB_MIN = 400
"""The repairer takes so much with Dagster imported, before it has repaired anything."""

PEPPER_CHARACTERS_MIN = 32
PROVIDER_SECRET_CHARACTERS_MIN = 24
PROVIDER_SECRETS_MAX = 2

MAY_BE_LEFT_OUT = ("cache_url", "carts_url", "catalog_reader_dsn", "read_models_reader_dsn", "read_models_witness_dsn")
"""Addresses that may be empty; each field says what it means then."""

POD_ROLES = ("owner", "app", "relay", "reader")
"""A pod's roles, as its settings name them."""
WITNESS = "witness"
"""The one role of a pod that may be left out: then nobody sees at once what is written past the rules."""


def pod_setting(pod: str, role: str) -> str:
    """Return the name of the setting that holds a pod's DSN for a role, e.g. ``TIEOUT_POD1_APP_DSN``."""
    return f"TIEOUT_{pod.upper()}_{role.upper()}_DSN"


@dataclass(frozen=True, kw_only=True)
class PodSettings:
    """One pod's PostgreSQL, by role; every DSN is a libpq URI (``postgresql://user:password@host:port/database``)."""

    pod: str
    owner_dsn: str
    """Owns the tables: migrations only."""
    app_dsn: str
    """Commands: reads and writes rows; may not alter tables."""
    relay_dsn: str
    """Relay: reads the outbox, registers cuts, prunes."""
    reader_dsn: str
    """Comparison and observation: reads everything, registers cuts, writes nothing else."""
    witness_dsn: str = ""
    """Witness: decodes the write-ahead log by a replication slot. Empty: the pod has no witness."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that the program must know about its environment."""

    var_dir: Path
    """Runtime files: embedded data, logs, generated passwords. Absolute."""
    pods: tuple[PodSettings, ...]
    control_dsn: str
    """Database of the directory, comparison results and build records."""
    catalog_dsn: str
    """DuckLake's catalog database."""
    read_models_dsn: str
    """Database of all read models."""
    dagster_dsn: str
    """Dagster's own storage."""
    log_url: str
    """Valkey or Redis that holds the log (``redis://:password@host:port/0``)."""
    lake_data_path: str
    """Folder or object-store prefix of the lake's Parquet files."""
    lake_backup_path: Path | ObjectFolder
    """Folder or object-store prefix of the lake's verified backup; use another disk or bucket than the lake's."""
    object_store: ObjectStore | None = None
    """The object store of those of these two paths that begin with ``s3://``; None when neither does."""
    cache_url: str = ""
    """Valkey or Redis that holds assembled answers, not the log's. Empty: nothing is cached."""
    catalog_reader_dsn: str = ""
    """The catalog for `tieout sql`, with a role that may only read. Empty: the same as `catalog_dsn`."""
    read_models_reader_dsn: str = ""
    """The read models for `tieout sql`, with a role that may only read. Empty: the same as `read_models_dsn`."""
    read_models_witness_dsn: str = ""
    """Witness of the read models: decodes the write-ahead log by a replication slot. Empty: they have no witness."""
    partition_count: int = 4
    """Partitions per pod in the log; stored with every cut."""
    chunk_rows: int = 10_000
    """Largest number of events in one log entry; stored with every cut."""
    comparison_memory_mb: int = 256
    """Memory limit of DuckDB in a comparison; it spills the rest to disk. The process takes 300 to 400 MB besides."""
    reconciler_cpu_percent: int = 15
    """The share of one processor that the reconciler's rounds may take over time, in percent; 0 switches them off."""
    reconciler_memory_mb: int = 500
    """Above this resident memory the reconciler begins anew after its round."""
    repairer_memory_mb: int = 700
    """Above this resident memory the repairer, which has Dagster imported, begins anew after its repairs."""
    scratch_disk_mb: int = 50_000
    """What a comparison may write to disk, below `var_dir`: the rows of both sides, and what DuckDB spills."""
    lake_memory_mb: int = LAKE_MEMORY_MB
    """Memory limit of DuckDB in every other process that reads or writes the lake, e.g. a consumer."""
    warehouse_memory_mb: int = 1_000
    """Memory limit of DuckDB while dbt builds the warehouse."""
    lake_threads: int = LAKE_THREADS
    """Threads of DuckDB in every process that reads or writes the lake, compares, or builds the warehouse."""
    alert_urls: tuple[str, ...] = field(default=(), repr=False)
    """Apprise addresses that get alerts of incidents; they hold secrets. Empty: no alerts are sent."""
    digest_urls: tuple[str, ...] = field(default=(), repr=False)
    """Apprise addresses that get the digests for finance; `alert_urls` unless set."""

    carts_url: str = ""
    """Valkey or Redis that holds carts and sessions, another server than the log's. Empty: carts are not served."""
    carts_queued_max: int = CARTS_QUEUED_MAX
    """How many carts of a pod may wait for its database; a further one cannot be changed."""
    cart_write_ms: int = CART_WRITE_MS
    """After how many milliseconds a change of a cart is in its pod's database at the latest."""
    cart_age_days: int = CART_AGE_DAYS
    """A cart that nobody has changed for so many days counts as empty."""
    api_pepper: str = field(default="", repr=False)
    """The secret of API keys, cursors and positions. Empty: a generated file below `var_dir`, for its owner only."""
    provider_secrets: tuple[str, ...] = field(default=(), repr=False)
    """The secrets with which the payment provider signs its notifications: one, or the old and the new one. Empty: a
    generated one below `var_dir`."""
    api_port: int = 8080
    """The preferred port of the HTTP interface on loopback; another one is taken when it is not free."""
    api_processes: int = 1
    """How many processes serve the HTTP interface; each uses one processor at most."""
    api_requests_per_second: int = 200
    """How often one API key may ask a process of the HTTP interface, over time; twice that at once after a pause."""
    api_requests_at_once: int = 64
    """How many requests of one API key a process of the HTTP interface serves at once."""
    webhook_open_hosts: tuple[str, ...] = ()
    """Hosts that webhooks may be sent to although they are of a private network, and without https. Empty: none."""
    webhook_endpoints_max: int = 10
    """How many endpoints for webhooks a merchant may have."""
    webhook_give_up_hours: int = 72
    """For so long a message is tried again; then its endpoint is parked until somebody lets it go on."""
    webhook_timeout_seconds: int = 15
    """So long an endpoint may take to answer."""
    webhook_waiting_max: int = 100_000
    """How many messages wait for one endpoint at most; what comes then is not noted, and can be replayed later."""
    webhook_keep_days: int = 30
    """So long the note of a message that was acknowledged is kept."""

    @property
    def data_docs_dir(self) -> Path:
        """Where Great Expectations' results and pages are."""
        return self.var_dir / "data_docs"

    @property
    def scratch_dir(self) -> Path:
        """Where comparisons write the rows of both sides, and where DuckDB spills. It holds personal data."""
        return self.var_dir / "scratch"

    def pod(self, name: str) -> PodSettings:
        """Return the settings of the named pod; SettingsError names the known ones."""
        for candidate in self.pods:
            if candidate.pod == name:
                return candidate
        known = ", ".join(candidate.pod for candidate in self.pods)
        raise SettingsError(f"Pod {name!r} is not configured; known pods: {known}.")


NUMBERS: dict[str, int] = {one.name: one.default for one in fields(Settings) if isinstance(one.default, int)}
"""The settings that are whole numbers, and their defaults."""

LEAST = {
    "reconciler_cpu_percent": 0,
    "comparison_memory_mb": MEMORY_MB_MIN,
    "reconciler_memory_mb": MEMORY_MB_MIN,
    "lake_memory_mb": MEMORY_MB_MIN,
    "warehouse_memory_mb": MEMORY_MB_MIN,
    "repairer_memory_mb": REPAIRER_MB_MIN,
    "cart_write_ms": 20,
}
"""The least value of each number; 1 where none stands here."""


def parse_settings(values: Mapping[str, str]) -> Settings:
    """Build Settings from ``TIEOUT_*`` strings; SettingsError says which one is missing and how to set it.

    Pods are listed in ``TIEOUT_PODS`` (comma separated); each has ``TIEOUT_<POD>_{OWNER,APP,RELAY,READER}_DSN``
    and may have ``TIEOUT_<POD>_WITNESS_DSN``.
    """

    def required(name: str) -> str:
        value = values.get(name, "").strip()
        if not value:
            raise SettingsError(f"Setting {name} is missing; set it in the environment or run `tieout up`, which does.")
        return value

    alert_urls = _urls("TIEOUT_ALERT_URLS", values)
    var_dir = Path(required("TIEOUT_VAR_DIR")).absolute()
    backup_path = values.get("TIEOUT_LAKE_BACKUP_PATH", "").strip()
    names = [name.strip() for name in required("TIEOUT_PODS").split(",") if name.strip()]
    if len(set(names)) != len(names) or not all(name.isidentifier() and name == name.lower() for name in names):
        raise SettingsError("Setting TIEOUT_PODS must list distinct lower-case names, e.g. TIEOUT_PODS=pod1,pod2.")
    pods = tuple(_pod(name, required, values) for name in names)
    data_path = required("TIEOUT_LAKE_DATA_PATH")
    store = _object_store(values, data_path, backup_path)
    return Settings(
        var_dir=var_dir,
        pods=pods,
        control_dsn=required("TIEOUT_CONTROL_DSN"),
        catalog_dsn=required("TIEOUT_CATALOG_DSN"),
        read_models_dsn=required("TIEOUT_READ_MODELS_DSN"),
        dagster_dsn=required("TIEOUT_DAGSTER_DSN"),
        log_url=required("TIEOUT_LOG_URL"),
        lake_data_path=data_path,
        lake_backup_path=_backup_folder(backup_path, var_dir, store),
        object_store=store,
        **_may_be_left_out(values),
        alert_urls=alert_urls,
        digest_urls=_urls("TIEOUT_DIGEST_URLS", values) or alert_urls,
        api_pepper=_pepper(values),
        provider_secrets=_provider_secrets(values),
        webhook_open_hosts=_hosts("TIEOUT_WEBHOOK_OPEN_HOSTS", values),
        **_integers(values),
    )


def _may_be_left_out(values: Mapping[str, str]) -> dict[str, Any]:
    return {name: values.get(f"TIEOUT_{name.upper()}", "").strip() for name in MAY_BE_LEFT_OUT}


def _pod(name: str, required: Callable[[str], str], values: Mapping[str, str]) -> PodSettings:
    dsns = {f"{role}_dsn": required(pod_setting(name, role)) for role in POD_ROLES}
    return PodSettings(pod=name, **dsns, witness_dsn=values.get(pod_setting(name, WITNESS), "").strip())


def as_values(settings: Settings) -> dict[str, str]:
    """Return the strings from which `parse_settings` makes these settings; a child process gets them as environment."""
    values = {
        "TIEOUT_VAR_DIR": str(settings.var_dir),
        "TIEOUT_PODS": ",".join(pod.pod for pod in settings.pods),
        "TIEOUT_CONTROL_DSN": settings.control_dsn,
        "TIEOUT_CATALOG_DSN": settings.catalog_dsn,
        "TIEOUT_READ_MODELS_DSN": settings.read_models_dsn,
        "TIEOUT_CATALOG_READER_DSN": settings.catalog_reader_dsn,
        "TIEOUT_READ_MODELS_READER_DSN": settings.read_models_reader_dsn,
        "TIEOUT_READ_MODELS_WITNESS_DSN": settings.read_models_witness_dsn,
        "TIEOUT_DAGSTER_DSN": settings.dagster_dsn,
        "TIEOUT_LOG_URL": settings.log_url,
        "TIEOUT_CACHE_URL": settings.cache_url,
        "TIEOUT_LAKE_DATA_PATH": settings.lake_data_path,
        "TIEOUT_LAKE_BACKUP_PATH": str(settings.lake_backup_path),
        "TIEOUT_ALERT_URLS": ",".join(settings.alert_urls),
        "TIEOUT_DIGEST_URLS": ",".join(settings.digest_urls),
        "TIEOUT_CARTS_URL": settings.carts_url,
        "TIEOUT_API_PEPPER": settings.api_pepper,
        "TIEOUT_PROVIDER_SECRETS": ",".join(settings.provider_secrets),
        "TIEOUT_WEBHOOK_OPEN_HOSTS": ",".join(settings.webhook_open_hosts),
        **{_setting(name): str(getattr(settings, name)) for name in NUMBERS},
    }
    if (store := settings.object_store) is not None:
        values |= {
            "TIEOUT_S3_ENDPOINT": store.endpoint,
            "TIEOUT_S3_REGION": store.region,
            "TIEOUT_S3_KEY_ID": store.key_id,
            "TIEOUT_S3_SECRET": store.secret,
        }
    for pod in settings.pods:
        values |= {pod_setting(pod.pod, role): getattr(pod, f"{role}_dsn") for role in (*POD_ROLES, WITNESS)}
    return values


def _object_store(values: Mapping[str, str], *paths: str) -> ObjectStore | None:
    """Return the object store of `paths`, None when none is on one; SettingsError if its settings are incomplete."""
    given = {name: values.get(f"TIEOUT_S3_{name}", "").strip() for name in ("ENDPOINT", "REGION", "KEY_ID", "SECRET")}
    wanted = [path for path in paths if "://" in path]
    if not wanted:
        return None
    for path in wanted:
        checked_prefix("TIEOUT_LAKE_DATA_PATH" if path == paths[0] else "TIEOUT_LAKE_BACKUP_PATH", path)
    for name in ("KEY_ID", "SECRET"):
        if not given[name]:
            raise SettingsError(f"Setting TIEOUT_S3_{name} is missing; {wanted[0]} is on an object store, which asks.")
    if given["ENDPOINT"] and not re.fullmatch(r"https?://[^/\s@?#]+/?", given["ENDPOINT"]):
        # The value is not shown, because it may contain the key.
        raise SettingsError("Setting TIEOUT_S3_ENDPOINT is no address such as https://s3.example or http://host:9000.")
    return ObjectStore(
        endpoint=given["ENDPOINT"].rstrip("/"),
        region=given["REGION"] or "us-east-1",
        key_id=given["KEY_ID"],
        secret=given["SECRET"],
    )


def _backup_folder(path: str, var_dir: Path, store: ObjectStore | None) -> Path | ObjectFolder:
    if store is not None and is_object_path(path):
        return ObjectFolder(address=checked_prefix("TIEOUT_LAKE_BACKUP_PATH", path), store=store)
    return Path(path).absolute() if path else var_dir / "backup" / "lake"


def _hosts(name: str, values: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(host.strip().lower() for host in values.get(name, "").split(",") if host.strip())


def _pepper(values: Mapping[str, str]) -> str:
    pepper = values.get("TIEOUT_API_PEPPER", "").strip()
    if pepper and len(pepper) < PEPPER_CHARACTERS_MIN:
        # The value is not shown, because it is a secret.
        raise SettingsError(f"Setting TIEOUT_API_PEPPER has less than {PEPPER_CHARACTERS_MIN} characters.")
    return pepper


def _provider_secrets(values: Mapping[str, str]) -> tuple[str, ...]:
    secrets = tuple(one.strip() for one in values.get("TIEOUT_PROVIDER_SECRETS", "").split(",") if one.strip())
    if len(secrets) > PROVIDER_SECRETS_MAX or any(len(one) < PROVIDER_SECRET_CHARACTERS_MIN for one in secrets):
        # The values are not shown, because they are secrets.
        raise SettingsError(
            f"Setting TIEOUT_PROVIDER_SECRETS holds at most {PROVIDER_SECRETS_MAX} secrets, separated by commas, of at "
            f"least {PROVIDER_SECRET_CHARACTERS_MIN} characters each."
        )
    return secrets


def _setting(field_name: str) -> str:
    return f"TIEOUT_{field_name.upper()}"


def _integers(values: Mapping[str, str]) -> dict[str, Any]:
    """Return all whole numbers; what is not set keeps the default that `Settings` declares."""
    return {name: _integer(name, values) for name in NUMBERS}


def _integer(field_name: str, values: Mapping[str, str]) -> int:
    name, least = _setting(field_name), LEAST.get(field_name, 1)
    text = values.get(name, "").strip()
    if not text:
        return NUMBERS[field_name]
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise SettingsError(f"Setting {name} is {text!r}; it must be a whole number of at least {least:,}.")
    return int(text)


def _urls(name: str, values: Mapping[str, str]) -> tuple[str, ...]:
    """Return the addresses of a setting. An address may contain commas, so a comma separates only before a scheme."""
    found = [part.strip() for part in re.split(r",\s*(?=[A-Za-z][\w.+-]*://)", values.get(name, "").strip())]
    for number, url in enumerate(found, start=1):
        # The address is not shown, because it may contain a password.
        if url and not re.match(r"[A-Za-z][\w.+-]*://\S+$", url):
            raise SettingsError(f"Entry {number} of setting {name} is no address such as mailto://... or slack://....")
    return tuple(url for url in found if url)
