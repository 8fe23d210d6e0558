"""Fixtures: real embedded servers, migrated databases cloned from a template, settings, and the seed of random tests.

One PostgreSQL and one Valkey per pytest process (so per xdist worker), without fsync, their files in memory where there
is room; every test has its own databases.
"""

from __future__ import annotations

import gc
import itertools
import os
import random
import shutil
import signal
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import psutil
import psycopg
import pytest
import redis
from psycopg import sql

from contracts.settings import PodSettings, Settings
from stack.servers import bootstrap
from stack.servers.embedded import embedded_servers
from stack.servers.postgres import EmbeddedPostgres
from stack.servers.valkey import EmbeddedValkey
from tests.selection import longest_first, take_turns

MakePod = Callable[..., PodSettings]
MakeDatabase = Callable[..., str]


@dataclass(kw_only=True)
class Cluster:
    """The running test cluster: names databases, clones them, and knows every role's password."""

    server: EmbeddedPostgres
    passwords: dict[str, str]
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    administrator: psycopg.Connection | None = field(default=None, repr=False)
    """Stays open, because a run makes and drops some fifteen hundred databases."""

    def superuser_dsn(self, database: str = "postgres") -> str:
        """Return the superuser's URI of a database."""
        return self.server.superuser_dsn(database)

    def dsn(self, role: str, database: str) -> str:
        """Return a role's URI of a database."""
        return self.server.dsn(role, self.passwords[role], database)

    def create(self, prefix: str, *, owner: str, template: str = "template0", connecting: Iterable[str] = ()) -> str:
        """Create a database under a name that was never used, and return the name; these roles, too, may connect."""
        database = f"{prefix}_{next(self.numbers)}"
        names = {"name": sql.Identifier(database), "owner": sql.Identifier(owner), "template": sql.Identifier(template)}
        # Copying a template's files takes a quarter of the time that writing them through the log takes.
        self._execute(sql.SQL("create database {name} owner {owner} template {template} strategy file_copy"), names)
        self._execute(sql.SQL("revoke all on database {name} from public"), names)
        if connecting:
            roles = sql.SQL(", ").join(map(sql.Identifier, connecting))
            self._execute(sql.SQL("grant connect, temporary on database {name} to {roles}"), {**names, "roles": roles})
        return database

    def drop(self, database: str) -> None:
        """Drop a database, ending the sessions in it."""
        self._execute(sql.SQL("drop database if exists {name} with (force)"), {"name": sql.Identifier(database)})

    def close(self) -> None:
        """Close the connection that makes databases."""
        if self.administrator is not None:
            self.administrator.close()

    def _execute(self, statement: sql.SQL, names: Mapping[str, sql.Composable]) -> None:
        if self.administrator is None or not _is_alive(self.administrator):
            self.administrator = psycopg.connect(self.superuser_dsn(), autocommit=True)
        self.administrator.execute(statement.format(**names))

    def pod_settings(self, pod: str, database: str) -> PodSettings:
        """Return the settings of a pod whose data are in `database`."""
        owner, app, relay, reader = (self.dsn(role, database) for role in bootstrap.POD_ROLES)
        witness = self.dsn(bootstrap.WITNESS_ROLE, database)
        return PodSettings(
            pod=pod, owner_dsn=owner, app_dsn=app, relay_dsn=relay, reader_dsn=reader, witness_dsn=witness
        )


def _is_alive(connection: psycopg.Connection) -> bool:
    """Return whether nobody has ended the session: some tests end all that they find."""
    try:
        connection.execute("")
    except psycopg.OperationalError:
        return False
    return True


FOLDER_PREFIX = "tieout-test-"
"""Of the folders with servers, followed by the id of the pytest process."""
MEMORY = Path("/dev/shm")
MEMORY_ROOM_BYTES = 6 << 30
"""Three workers with all their servers, lakes and scratch files hold less than half of this."""


def _session_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
    # The account that PostgreSQL runs as, when root runs the tests, must be able to pass.
    folder.chmod(0o711)
    return folder


@pytest.fixture(autouse=True)
def roomy_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every disk be nearly empty: what people are told must not depend on the machine that runs the tests."""
    terabyte = 10**12
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=terabyte, used=0, free=terabyte))


@pytest.fixture(scope="session", autouse=True)
def nobodys_var_folder() -> Iterator[Path]:
    """Keep tests away from the checkout's own var folder, where somebody's system may run; none uses this one."""
    folder = Path(tempfile.gettempdir()) / f"tieout-nobodys-var-{os.getpid()}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIEOUT_VAR_DIR", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def no_servers_by_chance(nobodys_var_folder: Path) -> Iterator[None]:
    """Fail a test that starts servers without a var folder of its own."""
    yield
    if nobodys_var_folder.exists():
        embedded_servers(nobodys_var_folder).wipe()
        shutil.rmtree(nobodys_var_folder, ignore_errors=True)
        pytest.fail("This test has started servers without a var folder of its own.")


@pytest.fixture(scope="session")
def session_folder() -> Iterator[Path]:
    """A folder for servers, outside pytest's own (which only its owner may enter)."""
    folder = _session_folder()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def started_stack(session_folder: Path) -> Path:
    """The var folder of an embedded stack that was started and stopped once; a test that uses it leaves it stopped."""
    folder = session_folder / "stack"
    servers = embedded_servers(folder)
    try:
        servers.start()
    finally:
        servers.stop()
    return folder


@pytest.fixture(scope="session")
def postgres(session_folder: Path) -> Iterator[Cluster]:
    """A running embedded PostgreSQL with the roles of a pod and of the control cluster."""
    server = EmbeddedPostgres(
        name="test", folder=session_folder / "postgres", log=session_folder / "postgres.log", is_durable=False
    )
    roles = (*bootstrap.POD_ROLES, bootstrap.WITNESS_ROLE, *(item.role for item in bootstrap.CONTROL_DATABASES))
    passwords = {role: f"{role}-password" for role in roles}
    try:
        server.start()
        _hash_passwords_once(server)
        bootstrap.create_roles(server.superuser_dsn(), passwords)
        bootstrap.let_decode(server.superuser_dsn(), bootstrap.WITNESS_ROLE)
        cluster = Cluster(server=server, passwords=passwords)
        yield cluster
        cluster.close()
    finally:
        server.stop()


def _hash_passwords_once(server: EmbeddedPostgres) -> None:
    """Let both sides of a login hash a password once instead of 4,096 times: tests log in all the time."""
    with psycopg.connect(server.superuser_dsn(), autocommit=True) as connection:
        connection.execute("alter system set scram_iterations = 1")
        connection.execute("select pg_reload_conf()")


@pytest.fixture(scope="session")
def pod_template(postgres: Cluster) -> str:
    """The name of a migrated pod database that nobody is connected to."""
    from oltp.store.migrate import migrate

    owner = bootstrap.POD_ROLES[0]
    template = postgres.create("template_pod", owner=owner, connecting=(*bootstrap.POD_ROLES, bootstrap.WITNESS_ROLE))
    bootstrap.reserve_relay_lock(postgres.superuser_dsn(), template)
    migrate(postgres.dsn(owner, template))
    return template


@pytest.fixture
def make_database(postgres: Cluster) -> Iterator[MakeDatabase]:
    """A function that makes an empty database and returns its owner's URI; dropped after the test."""
    made: list[str] = []

    def make(owner: str = "tieout_owner") -> str:
        # The control databases are no pod's: there two-key locks are for whoever owns them.
        connecting = (*bootstrap.POD_ROLES, bootstrap.WITNESS_ROLE) if owner in bootstrap.POD_ROLES else ()
        database = postgres.create("empty", owner=owner, connecting=connecting)
        made.append(database)
        return postgres.dsn(owner, database)

    yield make
    for database in made:
        postgres.drop(database)


@pytest.fixture
def make_pod(postgres: Cluster, pod_template: str) -> Iterator[MakePod]:
    """A function that makes a migrated pod and returns its settings; dropped after the test."""
    made: list[str] = []

    def make(name: str = "pod1") -> PodSettings:
        roles = bootstrap.POD_ROLES
        database = postgres.create(
            name, owner=roles[0], template=pod_template, connecting=(*roles, bootstrap.WITNESS_ROLE)
        )
        made.append(database)
        return postgres.pod_settings(name, database)

    yield make
    for database in made:
        postgres.drop(database)


@pytest.fixture
def pods(make_pod: MakePod) -> tuple[PodSettings, PodSettings]:
    """Two migrated pods, pod1 and pod2."""
    return make_pod("pod1"), make_pod("pod2")


@pytest.fixture(scope="session")
def valkey_server(session_folder: Path) -> Iterator[EmbeddedValkey]:
    """A running embedded Valkey that keeps nothing on disk."""
    server = EmbeddedValkey(
        name="test", folder=session_folder / "valkey", log=session_folder / "valkey.log", is_durable=False
    )
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def valkey_url(valkey_server: EmbeddedValkey) -> str:
    """The URL of an empty Valkey."""
    with redis.Redis.from_url(valkey_server.url()) as client:
        client.flushall()
    return valkey_server.url()


@pytest.fixture
def settings(
    pods: tuple[PodSettings, PodSettings], make_database: MakeDatabase, valkey_url: str, tmp_path: Path
) -> Settings:
    """Two migrated pods, empty control, catalog, read-model and Dagster databases, Valkey, a lake in `tmp_path`."""
    lake = tmp_path / "lake"
    lake.mkdir()
    return Settings(
        var_dir=tmp_path / "var",
        pods=pods,
        control_dsn=make_database("tieout_control"),
        catalog_dsn=make_database("tieout_lake"),
        read_models_dsn=make_database("tieout_read_models"),
        dagster_dsn=make_database("tieout_dagster"),
        log_url=valkey_url,
        lake_data_path=f"{lake}/",
        lake_backup_path=tmp_path / "backup",
        # As many workers run as there are processors, and a few hundred rows need no second thread: with it these tests
        # take a fifth more. Scenarios run with the default.
        lake_threads=1,
    )


SEED = int(os.environ.get("TIEOUT_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)


def pytest_configure(config: pytest.Config) -> None:
    """Give every xdist worker the controller's seed; take Ctrl-C, also where the run was started in the background.

    A shell lets what it starts in the background ignore it, and so would every process that a test starts.
    """
    if not hasattr(config, "workerinput"):
        _keep_files_in_memory()
        _keep_freed_memory()
        _remove_leftovers()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "workerinput"):
        global SEED
        SEED = config.workerinput["tieout_seed"]


def _keep_files_in_memory() -> None:
    """Let all temporary files be in memory: tests create and drop databases all the time, a thousand files each."""
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK):
        return
    if min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available) > MEMORY_ROOM_BYTES:
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None


def _keep_freed_memory() -> None:
    """Let DuckDB keep the memory that it frees for half a minute and not a second: a twentieth of all work is less."""
    os.environ.setdefault("DUCKDB_JE_MALLOC_CONF", "dirty_decay_ms:30000,muzzy_decay_ms:30000")


def _remove_leftovers() -> None:
    """End the servers of test runs that were killed, and remove their folders: they may take memory."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*-*"):
        owner = folder.name.removeprefix(FOLDER_PREFIX).partition("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            for process in psutil.process_iter(["cmdline"]):
                if any(str(folder) in argument for argument in process.info["cmdline"] or ()):
                    process.kill()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose the tests of this run, and their order."""
    take_turns(items, chosen=config.option.markexpr, seed=SEED)
    longest_first(items)


def pytest_collection_finish() -> None:
    """Let the garbage collector leave alone what is loaded by now: a million objects, none of them garbage.

    At the rest it looks less often: the project that dbt parses is many objects, too, and stays.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Hand the seed to an xdist worker."""
    node.workerinput["tieout_seed"] = SEED  # type: ignore[attr-defined]


def pytest_report_header() -> str:
    """Print the seed, so that a failed random test can be run again."""
    return f"random tests: TIEOUT_TEST_SEED={SEED}"


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of this test: the run's seed mixed with the test's name; shown when the test fails."""
    value = SEED ^ zlib.crc32(request.node.nodeid.encode())
    sys.stdout.write(f"TIEOUT_TEST_SEED={SEED} gives this test the seed {value}\n")
    return value


@pytest.fixture
def rng(seed: int) -> random.Random:
    """A random source with this test's seed."""
    return random.Random(seed)


@pytest.fixture
def sample_books() -> Path:
    """The folder of shared test data; skips when this machine has none."""
    root = Path(os.environ.get("TIEOUT_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no test data in {root}; set TIEOUT_TEST_DATA to the folder that holds online_retail/")
    return root
