"""The settings of each process of ours: what its duty needs, without the passwords of other roles.

Belongs here: duties and their secrets. Does not belong here: starting the processes (`stack/processes/workers.py`),
what can be set (`contracts/settings.py`).

Such a process reads its settings from its own file instead of `settings.env` (`write_duty`), or from its environment.
All other secrets are set to `WITHHELD`, so that a step beyond its duty fails with a clear error. This does not stop a
process from reading `settings.env`, because all processes run as one user of the machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from contracts.ownership import COPIES, CopyKind, absent_copies, copy_named
from contracts.settings import POD_ROLES, WITNESS, Settings, as_values, pod_setting
from stack.settings import FILE_SETTING, write_settings_file

WITHHELD = "service=withheld_from_this_process"
"""Replaces a DSN: libpq looks for a service of this name, and its error says that there is none."""

SECRETS = (
    "TIEOUT_CONTROL_DSN",
    "TIEOUT_CATALOG_DSN",
    "TIEOUT_READ_MODELS_DSN",
    "TIEOUT_CATALOG_READER_DSN",
    "TIEOUT_READ_MODELS_READER_DSN",
    "TIEOUT_READ_MODELS_WITNESS_DSN",
    "TIEOUT_DAGSTER_DSN",
    "TIEOUT_LOG_URL",
    "TIEOUT_CARTS_URL",
    "TIEOUT_CACHE_URL",
    "TIEOUT_S3_SECRET",
)
"""Settings that hold a password, besides those of the pods and ALERTS, which only the senders of alerts get."""

ALERTS = ("TIEOUT_ALERT_URLS", "TIEOUT_DIGEST_URLS")
PEPPER = "TIEOUT_API_PEPPER"
"""The secret of API keys and of webhooks: only the HTTP interface, and who sends webhooks, get it."""
PROVIDER = "TIEOUT_PROVIDER_SECRETS"
"""The secrets of the payment provider's notifications: only the HTTP interface gets them."""

URLS = ("TIEOUT_LOG_URL", "TIEOUT_CARTS_URL", "TIEOUT_CACHE_URL")
WITHHELD_URL = "redis://withheld-from-this-process.invalid/0"


def relay_settings(settings: Settings, pod: str) -> dict[str, str]:
    """Return the settings of a pod's relay: its role in the pod, the log, and the copies that it queries."""
    copies = ["TIEOUT_CATALOG_DSN", "TIEOUT_READ_MODELS_DSN"]
    return _told(settings, ["TIEOUT_LOG_URL", *copies, pod_setting(pod, "relay")])


def consumer_settings(settings: Settings, projection: str) -> dict[str, str]:
    """Return the settings of a consumer: the log, and the store of its projection."""
    stores = {
        CopyKind.LAKE: ["TIEOUT_CATALOG_DSN"],
        CopyKind.READ_MODEL: ["TIEOUT_READ_MODELS_DSN"],
        CopyKind.CACHE: ["TIEOUT_CACHE_URL"],
        CopyKind.WEBHOOKS: ["TIEOUT_CONTROL_DSN"],
    }
    # The other stores are folders below `var_dir`.
    kind = copy_named(projection).kind
    told = _told(settings, ["TIEOUT_LOG_URL", *stores.get(kind, [])])
    # The secrets by which messages are signed are computed from the pepper.
    return {**told, PEPPER: settings.api_pepper} if kind is CopyKind.WEBHOOKS else told


def traffic_settings(settings: Settings) -> dict[str, str]:
    """Return the settings of the live traffic: it runs commands, and reads merchants' pods from the directory."""
    return _told(settings, ["TIEOUT_CONTROL_DSN", *_of_pods(settings, ["app"])])


def carts_settings(settings: Settings) -> dict[str, str]:
    """Return the settings of the writer of carts: their server, the pods, and the directory for merchants that move."""
    return _told(settings, ["TIEOUT_CONTROL_DSN", "TIEOUT_CARTS_URL", *_of_pods(settings, ["app", "reader"])])


def witness_settings(settings: Settings) -> dict[str, str]:
    """Return the settings of the witnesses: what decodes write-ahead logs, the log, catalog and control database."""
    # The catalog by the role that may only read; without one, by its owner.
    catalog = "TIEOUT_CATALOG_READER_DSN" if settings.catalog_reader_dsn else "TIEOUT_CATALOG_DSN"
    servers = ["TIEOUT_LOG_URL", "TIEOUT_CARTS_URL", "TIEOUT_CACHE_URL"]
    own = ["TIEOUT_CONTROL_DSN", *servers, "TIEOUT_READ_MODELS_WITNESS_DSN", catalog]
    return _told(settings, [*own, *_of_pods(settings, [WITNESS])])


def api_settings(settings: Settings) -> dict[str, str]:
    """Return the settings of the HTTP interface: it runs commands, asks copies, and shows operators how all stands."""
    # The copies by the roles that may only read; without them, by their owners.
    catalog = "TIEOUT_CATALOG_READER_DSN" if settings.catalog_reader_dsn else "TIEOUT_CATALOG_DSN"
    models = "TIEOUT_READ_MODELS_READER_DSN" if settings.read_models_reader_dsn else "TIEOUT_READ_MODELS_DSN"
    own = ["TIEOUT_CONTROL_DSN", "TIEOUT_LOG_URL", "TIEOUT_CARTS_URL", "TIEOUT_CACHE_URL", catalog, models]
    told = _told(settings, [*own, *_of_pods(settings, ["app", "reader"])])
    return {**told, PEPPER: settings.api_pepper, PROVIDER: ",".join(settings.provider_secrets)}


def builder_settings(settings: Settings) -> dict[str, str]:
    """Return the settings of the child that builds the warehouse: the lake, and the control database for its lock."""
    return _told(settings, ["TIEOUT_CATALOG_DSN", "TIEOUT_CONTROL_DSN"])


def graph_settings(settings: Settings) -> dict[str, str]:
    """Return the settings of the processes that run the graph: all roles except the pods' owner and the readers."""
    # The reader roles of the copies are for people's queries, the witness's role for the witness.
    copies = [name for name in SECRETS if "_READER_" not in name and "_WITNESS_" not in name]
    told = [*copies, *_of_pods(settings, [role for role in POD_ROLES if role != "owner"])]
    return _told(settings, told, has_alerts=True)


def upkeep_settings(settings: Settings) -> dict[str, str]:
    """Return the settings of the worker that sends alerts and, without Dagster, does the work of its schedules."""
    return graph_settings(settings)


def reconciler_settings(settings: Settings) -> dict[str, str]:
    """Return the settings of the reconciler: it reads every store, and writes the ledger and the warehouse."""
    copies = ["TIEOUT_CONTROL_DSN", "TIEOUT_CATALOG_DSN", "TIEOUT_READ_MODELS_DSN", "TIEOUT_LOG_URL"]
    return _told(settings, [*copies, "TIEOUT_CACHE_URL", "TIEOUT_CARTS_URL", *_of_pods(settings, ["reader"])])


def display_settings(settings: Settings) -> dict[str, str]:
    """Return the settings of Dagster's webserver and daemon: no secrets, because `dagster.yaml` names its storage."""
    return _told(settings, [])


def write_duty(settings: Settings, name: str, told: Mapping[str, str]) -> dict[str, str]:
    """Write the settings of a process to its own file (0600); return the environment that makes it read this file."""
    folder = settings.var_dir / "supervisor" / "settings"
    write_settings_file(folder, told, name=f"{name}.env")
    return {"TIEOUT_VAR_DIR": str(settings.var_dir), FILE_SETTING: str(folder / f"{name}.env")}


def _told(settings: Settings, names: Sequence[str], *, has_alerts: bool = False) -> dict[str, str]:
    values = as_values(settings)
    told = {*names, *(["TIEOUT_S3_SECRET"] if "TIEOUT_CATALOG_DSN" in names else [])}
    # A process with the lake's catalog also needs the lake's files. Their secret exists only with an object store.
    # Without a cache or carts there is nothing to withhold: programs then must know that there are none.
    without = {f"TIEOUT_{copy.setting.upper()}" for copy in COPIES if copy.name in absent_copies(settings)}
    for name in ({*SECRETS, *_of_pods(settings, [*POD_ROLES, WITNESS])} - told - without) & values.keys():
        values[name] = WITHHELD_URL if name in URLS else WITHHELD
    for name in (PEPPER, PROVIDER, *(() if has_alerts else ALERTS)):
        del values[name]
    return values


def _of_pods(settings: Settings, roles: Iterable[str]) -> list[str]:
    return [pod_setting(pod.pod, role) for pod in settings.pods for role in roles]
