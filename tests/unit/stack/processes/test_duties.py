"""Each process is told the passwords of its duty and no others."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import psycopg
import pytest

from contracts.object_store import ObjectStore
from contracts.ownership import READ_MODELS
from contracts.settings import POD_ROLES, WITNESS, PodSettings, Settings, as_values, parse_settings, pod_setting
from stack.processes import duties
from stack.processes.dagster_home import write_dagster_home
from stack.processes.workers import dagster_programs, propagation_programs, traffic_program
from stack.settings import ROOT, load_settings, without_settings


def _pod(name: str) -> PodSettings:
    roles = (*POD_ROLES, WITNESS)
    return PodSettings(pod=name, **{f"{role}_dsn": f"postgresql://{role}:{name}-{role}@db/x" for role in roles})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        var_dir=tmp_path,
        pods=(_pod("pod1"), _pod("pod2")),
        control_dsn="postgresql://c:control@db/control",
        catalog_dsn="postgresql://l:catalog@db/lake_catalog",
        read_models_dsn="postgresql://m:views@db/read_models",
        dagster_dsn="postgresql://g:dagster@db:1234/dagster",
        log_url="redis://:log@log/0",
        cache_url="redis://:cache@cache/0",
        lake_data_path="s3://lake/",
        lake_backup_path=tmp_path / "elsewhere",
        object_store=ObjectStore(endpoint="https://store", region="eu", key_id="k", secret="x:objects@"),
        catalog_reader_dsn="postgresql://q:asking@db/lake_catalog",
        read_models_reader_dsn="postgresql://q:looking@db/read_models",
        read_models_witness_dsn="postgresql://w:seeing@db/read_models",
        partition_count=7,
        chunk_rows=11,
        comparison_memory_mb=300,
        reconciler_cpu_percent=17,
        reconciler_memory_mb=600,
        repairer_memory_mb=650,
        scratch_disk_mb=400,
        lake_memory_mb=500,
        warehouse_memory_mb=600,
        lake_threads=3,
        alert_urls=("mailto://u:alert@x", "slack://a/b"),
        digest_urls=("mailto://u:digest@x",),
        carts_url="redis://:cartstore@carts/0",
        carts_queued_max=77,
        cart_write_ms=300,
        cart_age_days=9,
        api_pepper="p:pepper@and-some-more-characters",
        provider_secrets=("p:signing@and-some-more-characters", "another-secret-of-the-provider"),
        api_port=8181,
        api_processes=3,
        api_requests_per_second=10,
        api_requests_at_once=5,
        webhook_open_hosts=("127.0.0.1", "hooks.internal"),
        webhook_endpoints_max=3,
        webhook_give_up_hours=5,
        webhook_timeout_seconds=4,
        webhook_waiting_max=900,
        webhook_keep_days=8,
    )


def secrets_in(values: dict[str, str]) -> set[str]:
    text = "\n".join(values.values())
    known = [f"{pod}-{role}" for pod in ("pod1", "pod2") for role in (*POD_ROLES, WITNESS)]
    known += ["control", "catalog", "views", "dagster", "log", "alert", "digest", "objects", "asking"]
    known += ["looking", "seeing", "pepper", "signing", "cartstore", "cache"]
    return {secret for secret in known if f":{secret}@" in text}


def test_every_setting_survives_the_way_to_another_process(settings: Settings) -> None:
    plain = replace(settings, partition_count=4, chunk_rows=10_000)
    for value in fields(Settings):
        assert getattr(settings, value.name) != value.default, f"give {value.name} another value than its default"
    assert parse_settings(as_values(settings)) == settings
    assert parse_settings(as_values(plain)) == plain


TOLD: dict[str, tuple[Callable[[Settings], dict[str, str]], set[str]]] = {
    "relay": (lambda s: duties.relay_settings(s, "pod1"), {"pod1-relay", "log", "catalog", "views", "objects"}),
    "lake": (lambda s: duties.consumer_settings(s, "lake"), {"catalog", "log", "objects"}),
    "search": (lambda s: duties.consumer_settings(s, "search"), {"log"}),
    "view": (lambda s: duties.consumer_settings(s, "account_view"), {"views", "log"}),
    "cache": (lambda s: duties.consumer_settings(s, "answer_cache"), {"cache", "log"}),
    "webhooks": (lambda s: duties.consumer_settings(s, "webhooks"), {"control", "log", "pepper"}),
    "traffic": (duties.traffic_settings, {"pod1-app", "pod2-app", "control"}),
    "witness": (
        duties.witness_settings,
        {"pod1-witness", "pod2-witness", "control", "log", "cartstore", "cache", "seeing", "asking"},
    ),
    "api": (
        duties.api_settings,
        {f"{pod}-{role}" for pod in ("pod1", "pod2") for role in ("app", "reader")}
        | {"control", "log", "cache", "asking", "looking", "pepper", "signing", "cartstore"},
    ),
    "carts": (
        duties.carts_settings,
        {f"{pod}-{role}" for pod in ("pod1", "pod2") for role in ("app", "reader")} | {"control", "cartstore"},
    ),
    "reconciler": (
        duties.reconciler_settings,
        {"pod1-reader", "pod2-reader", "control", "catalog", "views", "log", "cartstore", "cache", "objects"},
    ),
    "builder": (duties.builder_settings, {"catalog", "control", "objects"}),
    "display": (duties.display_settings, set()),
    "upkeep": (
        duties.upkeep_settings,
        {f"{pod}-{role}" for pod in ("pod1", "pod2") for role in ("app", "relay", "reader")}
        | {"control", "catalog", "views", "dagster", "log", "cartstore", "cache", "alert", "digest", "objects"},
    ),
    "graph": (
        duties.graph_settings,
        {f"{pod}-{role}" for pod in ("pod1", "pod2") for role in ("app", "relay", "reader")}
        | {"control", "catalog", "views", "dagster", "log", "cartstore", "cache", "alert", "digest", "objects"},
    ),
}


@pytest.mark.parametrize("duty", TOLD)
def test_a_duty_is_told_its_own_passwords_only(settings: Settings, duty: str) -> None:
    told, expected = TOLD[duty]
    values = told(settings)
    assert secrets_in(values) == expected
    # What is left is still a whole set of settings.
    parsed = parse_settings(values)
    assert (parsed.partition_count, parsed.chunk_rows, parsed.lake_data_path) == (7, 11, "s3://lake/")


def test_a_step_beyond_the_duty_says_so(settings: Settings) -> None:
    told = parse_settings(duties.relay_settings(settings, "pod1"))
    with pytest.raises(psycopg.OperationalError, match="withheld_from_this_process"):
        psycopg.connect(told.pod("pod1").owner_dsn)


def test_a_worker_reads_its_own_file_which_is_private(settings: Settings) -> None:
    programs = [*propagation_programs(settings), traffic_program(settings)]
    seen = {}
    for program in programs:
        assert secrets_in(dict(program.environment)) == set()
        file = Path(program.environment["TIEOUT_SETTINGS_FILE"])
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        seen[program.name] = secrets_in(as_values(load_settings(program.environment)))
    assert seen == {
        "relay-pod1": {"pod1-relay", "log", "catalog", "views", "objects"},
        "relay-pod2": {"pod2-relay", "log", "catalog", "views", "objects"},
        **{f"lake-{pod}": {"catalog", "log", "objects"} for pod in ("pod1", "pod2")},
        **{
            f"{copy.name.replace('_', '-')}-{pod}": {"views", "log"} for pod in ("pod1", "pod2") for copy in READ_MODELS
        },
        **{f"search-{pod}": {"log"} for pod in ("pod1", "pod2")},
        **{f"answer-cache-{pod}": {"cache", "log"} for pod in ("pod1", "pod2")},
        **{f"webhooks-{pod}": {"control", "log", "pepper"} for pod in ("pod1", "pod2")},
        "traffic": {"pod1-app", "pod2-app", "control"},
    }
    without = propagation_programs(replace(settings, cache_url=""))
    assert {program.name for program in programs} - {program.name for program in without} == {
        "answer-cache-pod1",
        "answer-cache-pod2",
        "traffic",
    }


def test_only_the_graph_of_dagsters_processes_is_told_passwords(settings: Settings) -> None:
    workspace = ROOT / "workspace.yaml"
    programs = dagster_programs(settings, workspace=workspace, port=3000)
    seen = {program.name: secrets_in(as_values(load_settings(program.environment))) for program in programs}
    graph = TOLD["graph"][1]
    assert seen.pop("dagster-webserver") == seen.pop("dagster-daemon") == set()
    assert seen
    assert set(map(frozenset, seen.values())) == {frozenset(graph)}


def test_children_inherit_no_setting_but_the_mark_by_which_they_are_found() -> None:
    name = pod_setting("pod1", "owner")
    around = {name: "secret", "TIEOUT_PODS": "pod1", "TIEOUT_STACK": "/somewhere", "PATH": "/bin"}
    assert without_settings(around) == {"TIEOUT_STACK": "/somewhere", "PATH": "/bin"}


def test_servers_that_moved_are_the_only_ones_that_anything_names(settings: Settings) -> None:
    def at(port: int) -> Settings:
        values = {name: value.replace("@db/", f"@db:{port}/") for name, value in as_values(settings).items()}
        return replace(parse_settings(values), dagster_dsn=f"postgresql://g:dagster@db:{port}/dagster")

    def started(values: Settings) -> str:
        """Write everything that a start writes; return it, with what the workers are given."""
        programs = [*propagation_programs(values), traffic_program(values)]
        write_dagster_home(values)
        programs += dagster_programs(values, workspace=ROOT / "workspace.yaml", port=3000)
        given = [f"{program.command} {program.environment}" for program in programs]
        files = [path.read_text() for path in values.var_dir.rglob("*") if path.is_file()]
        return "\n".join([*given, *files])

    before, after = started(at(5_801)), started(at(5_802))
    assert "5801" in before and "5802" not in before
    assert "5802" in after and "5801" not in after
