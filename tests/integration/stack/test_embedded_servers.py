"""The embedded servers: first start, second start, stale pid files, taken ports, and who may log in."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from contracts.errors import StackError
from stack.servers import bootstrap, unix_account
from stack.servers.embedded import CACHE_MEMORY_MB, embedded_servers
from stack.servers.postgres import EmbeddedPostgres
from stack.servers.valkey import EmbeddedValkey
from stack.settings import write_settings_file

pytestmark = pytest.mark.timeout(120)


def _postgres(folder: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(
        name="pod1", folder=folder / "pod1", log=folder / "logs" / "pod1.log", is_durable=False, shared_buffers="16MB"
    )


def _valkey(folder: Path) -> EmbeddedValkey:
    return EmbeddedValkey(name="valkey", folder=folder / "valkey", log=folder / "logs" / "valkey.log")


@pytest.fixture
def folder(session_folder: Path) -> Iterator[Path]:
    """A folder for servers, the same for all tests here; whatever still runs in it is stopped after each."""
    made = session_folder / "embedded"
    made.mkdir(exist_ok=True)
    yield made
    _postgres(made).stop()
    _valkey(made).stop()


def test_data_survive_a_stop_and_a_start(folder: Path) -> None:
    server = _postgres(folder)
    server.start()
    with psycopg.connect(server.superuser_dsn()) as connection:
        connection.execute("create table if not exists kept as select 1 as one")
    server.stop()
    assert not server.is_running()
    server.start()
    with psycopg.connect(server.superuser_dsn()) as connection:
        assert connection.execute("select one from kept").fetchone() == (1,)
        assert connection.execute("show port").fetchone() == (str(server.port),)


def test_the_server_is_not_root_and_only_the_password_lets_in(folder: Path) -> None:
    server = _postgres(folder)
    server.start()
    process_id = int((server.data / "postmaster.pid").read_text().splitlines()[0])
    assert psutil.Process(process_id).uids().effective != 0
    assert stat.S_IMODE((folder / "pod1" / "superuser.password").stat().st_mode) == 0o600
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(server.dsn("postgres", "guessed", "postgres"))
    assert "superuser.password" not in [path.name for path in server.data.iterdir()]


def test_a_second_object_finds_the_running_server(folder: Path) -> None:
    first, second = _postgres(folder), _postgres(folder)
    first.start()
    second.start()
    assert second.port == first.port
    second.stop()
    assert not first.is_running()
    first.stop()


def test_a_killed_server_leaves_a_pid_file_that_does_not_matter(folder: Path) -> None:
    server = _postgres(folder)
    server.start()
    pid_file = server.data / "postmaster.pid"
    lines = pid_file.read_text()
    postmaster = psutil.Process(int(lines.splitlines()[0]))
    family = [postmaster, *postmaster.children(recursive=True)]
    os.kill(postmaster.pid, signal.SIGKILL)
    psutil.wait_procs(family, timeout=10)
    server.stop()
    # Its number now belongs to a live process that is no server: this one.
    pid_file.write_text(lines.replace(str(postmaster.pid), str(os.getpid()), 1))
    assert not server.is_running()
    server.start()
    with psycopg.connect(server.superuser_dsn()) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_port_that_was_taken_meanwhile_is_replaced(folder: Path) -> None:
    server = _postgres(folder)
    server.start()
    before = server.port
    server.stop()
    with socket.socket() as squatter:
        # Closed connections of earlier tests must not stand in the way, as they do not in the server's.
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", before))
        squatter.listen()
        server.start()
    assert server.port != before
    with psycopg.connect(server.superuser_dsn()) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_server_that_cannot_start_says_why_and_where_its_log_is(folder: Path) -> None:
    server = _postgres(folder)
    server.start()
    server.stop()
    version = server.data / "PG_VERSION"
    right = version.read_text()
    version.write_text("9\n")
    with pytest.raises(StackError, match=r"pod1 did not start .*log is .*pod1\.log\."):
        server.start()
    version.write_text(right)
    assert not server.is_running()


def test_a_full_disk_is_named_rather_than_what_it_led_to(tmp_path: Path) -> None:
    server = EmbeddedPostgres(name="pod1", folder=tmp_path / "pod1", log=tmp_path / "pod1.log")
    server.log.write_text(
        'PANIC:  could not write to file "pg_wal/xlogtemp.25": No space left on device\n'
        "FATAL:  checkpoint request failed\nHINT:  Consult recent messages in the server log for details.\n"
    )
    assert server._reason() == f"the disk of {server.data} is full"


LOST = [
    ["pod2"],
    ["control"],
    ["pod1/data/PG_VERSION"],
    ["pod2", "passwords"],
    ["pod1", "settings.env", "lake"],
    ["control", "passwords", "lake"],
    ["pod1", "passwords", "settings.env"],
]
"""Each leaves something by which one knows that there was a database."""


@pytest.mark.parametrize("lost", LOST, ids=" ".join)
def test_no_empty_database_takes_the_place_of_one_that_was_lost(started_stack: Path, lost: list[str]) -> None:
    servers, name = embedded_servers(started_stack), lost[0].partition("/")[0]
    (started_stack / "lake").mkdir(exist_ok=True)
    (started_stack / "lake" / "a-file.parquet").touch()
    write_settings_file(started_stack, {"TIEOUT_PODS": "pod1,pod2"})
    elsewhere = started_stack / "elsewhere"
    moved = {started_stack / part: elsewhere / part.replace("/", "-") for part in lost}
    elsewhere.mkdir()
    for folder, kept in moved.items():
        folder.rename(kept)
    before = sorted((started_stack / name).rglob("*"))
    try:
        with pytest.raises(
            StackError, match=f"The data of {name} are gone: .*/{name}/data has no database, and had one"
        ):
            servers.start()
        assert set(servers.running()) == {"pod1", "pod2", "control", "valkey", "carts", "cache"} - {name}
        assert sorted((started_stack / name).rglob("*")) == before
    finally:
        servers.stop()
        for folder, kept in moved.items():
            if folder.is_dir():
                shutil.rmtree(folder)
            kept.rename(folder)
        elsewhere.rmdir()
    servers.start()
    try:
        assert len(servers.running()) == len(servers.all)
    finally:
        servers.stop()
        (started_stack / "settings.env").unlink()
        shutil.rmtree(started_stack / "lake")


def test_a_lost_server_locks_nobody_out_of_the_others(started_stack: Path) -> None:
    """The folder of passwords is gone with a pod's: who runs and knows the old ones must still get in elsewhere."""
    servers, elsewhere = embedded_servers(started_stack), started_stack / "elsewhere"
    before = servers.start()
    write_settings_file(started_stack, before)
    try:
        servers.pods[0].kill()
        servers.pods[0].folder.rename(elsewhere)
        shutil.rmtree(started_stack / "passwords")
        with pytest.raises(StackError, match="The data of pod1 are gone"):
            servers.start()
        for setting in ("TIEOUT_POD2_APP_DSN", "TIEOUT_CONTROL_DSN", "TIEOUT_CATALOG_READER_DSN"):
            with psycopg.connect(before[setting]) as connection:
                assert connection.execute("select 1").fetchone() == (1,)
        elsewhere.rename(servers.pods[0].folder)
        assert servers.start() | {"TIEOUT_LOG_URL": ""} == before | {"TIEOUT_LOG_URL": ""}
    finally:
        servers.stop()
        (started_stack / "settings.env").unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somewhere that the server's account cannot reach")
def test_a_checkout_that_the_account_cannot_enter_still_works(folder: Path) -> None:
    private = folder / "private"
    private.mkdir(mode=0o700)
    server = _postgres(private)
    try:
        server.start()
        outside = server.data.parent
        assert folder not in outside.parents
        with psycopg.connect(server.superuser_dsn()) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
    finally:
        server.stop()
        server.wipe()
    assert not outside.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs programs as somebody else")
def test_programs_that_the_account_cannot_run_are_copied(folder: Path) -> None:
    tree = folder / "private" / "tree"
    (tree / "bin").mkdir(parents=True)
    program = tree / "bin" / "program"
    program.write_text("#!/bin/sh\necho 1.0\n")
    program.chmod(0o700)
    (folder / "private").chmod(0o700)
    account = unix_account.server_account()
    copy = unix_account.runnable_tree(tree, "bin/program", account, folder)
    assert copy != tree
    outcome = subprocess.run([copy / "bin" / "program"], capture_output=True, **account.popen_options(), cwd="/")
    assert outcome.stdout == b"1.0\n"


def test_an_ordinary_account_is_left_as_it_is(tmp_path: Path) -> None:
    account = unix_account.Account(user_id=os.geteuid(), group_id=os.getegid(), switch=False)
    assert account.popen_options() == {}
    assert unix_account.reachable_folder(tmp_path / "data", account) == tmp_path / "data"


def test_roles_see_only_their_databases(folder: Path) -> None:
    server = _postgres(folder)
    server.start()
    roles = (*(item.role for item in bootstrap.CONTROL_DATABASES), bootstrap.QUERY_ROLE, bootstrap.WITNESS_ROLE)
    passwords = {role: f"{role} password" for role in roles}
    for _ in range(2):
        bootstrap.prepare_control(server.superuser_dsn(), passwords)
    for item in bootstrap.CONTROL_DATABASES:
        with psycopg.connect(server.dsn(item.role, passwords[item.role], item.database)) as connection:
            connection.execute("create table if not exists mine (id integer)")
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(server.dsn("tieout_lake", passwords["tieout_lake"], "control"))
    asking = {
        database: server.dsn("tieout_query", passwords["tieout_query"], database)
        for database in ("control", "read_models")
    }
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(asking["control"])
    others = {item.database for item in bootstrap.CONTROL_DATABASES} - {bootstrap.WITNESSED_DATABASE[0]}
    for database in others:
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(server.dsn("tieout_witness", passwords["tieout_witness"], database))
    with psycopg.connect(asking["read_models"], autocommit=True) as connection:
        assert connection.execute("select count(*) from mine").fetchall() == [(0,)]
        connection.execute("set default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("insert into mine values (1)")


def test_valkey_keeps_its_data_and_asks_for_its_password(folder: Path) -> None:
    server = _valkey(folder)
    server.start()
    with redis.Redis.from_url(server.url()) as client:
        client.set("kept", "1")
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    with redis.Redis(port=server.port) as stranger, pytest.raises(redis.exceptions.AuthenticationError):
        stranger.get("kept")
    server.stop()
    assert not server.is_running()
    server.start()
    with redis.Redis.from_url(server.url()) as client:
        assert client.get("kept") == b"1"


def test_valkey_reads_its_settings_from_a_folder_whose_name_looks_like_a_pattern(folder: Path) -> None:
    server = _valkey(folder / "a [1] *b?")
    server.start()
    try:
        assert server.port != 6379
        with redis.Redis(port=server.port) as stranger, pytest.raises(redis.exceptions.AuthenticationError):
            stranger.ping()
    finally:
        server.stop()


def test_valkey_with_a_stale_pid_file_starts(folder: Path) -> None:
    server = _valkey(folder)
    server.start()
    server.stop()
    (folder / "valkey" / "valkey.pid").write_text(f"{os.getpid()}\n")
    assert not server.is_running()
    server.start()
    assert server.is_running()


def test_a_server_without_a_pid_file_is_found_and_no_second_one_starts(folder: Path) -> None:
    server = _valkey(folder)
    server.start()
    with redis.Redis.from_url(server.url()) as client:
        client.set("kept", "1")
        process_id = client.info("server")["process_id"]
        (folder / "valkey" / "valkey.pid").unlink()
        again = _valkey(folder)
        again.start()
        assert again.port == server.port
        assert client.info("server")["process_id"] == process_id
    again.stop()
    assert not server.is_running()


def test_a_killed_log_server_comes_back_with_its_data_or_empty_if_they_are_deleted(session_folder: Path) -> None:
    server = EmbeddedValkey(
        name="killed", folder=session_folder / "killed-valkey", log=session_folder / "killed-valkey.log"
    )
    try:
        server.start()
        port = server.port
        with redis.Redis.from_url(server.url()) as client:
            client.set("kept", 1)
        server.kill()
        assert not server.is_running()
        server.start()
        assert server.port == port
        with redis.Redis.from_url(server.url()) as client:
            assert client.get("kept") == b"1"
        server.kill()
        deleted, left = server.delete_data()
        assert deleted > 0 and left == 0
        server.start()
        with redis.Redis.from_url(server.url()) as client:
            assert client.keys() == []
    finally:
        server.stop()


def test_the_how_to_for_own_servers_gives_the_same_rights_and_limits() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "how-to" / "own-servers.md").read_text(encoding="utf-8")
    limits = {
        f"alter role {role} set {name} = '{value}';"
        for role, values in bootstrap.TIME_LIMITS.items()
        for name, value in values.items()
    }
    assert limits == {line for line in text.splitlines() if line.startswith("alter role")}
    assert {name for name in bootstrap.RELAY_LOCK_FUNCTIONS if f"'{name}'" in text} == {*bootstrap.RELAY_LOCK_FUNCTIONS}


def test_what_is_made_is_for_its_owner_only_whatever_the_umask_is(folder: Path) -> None:
    before = os.umask(0o022)
    try:
        server = _valkey(folder)
        server.start()
        client = redis.Redis.from_url(server.url())
        client.xadd("some", {"a": "b"})
        client.close()
    finally:
        os.umask(before)
    made = [path for path in (folder / "valkey").rglob("*") if path.is_file()]
    assert any("appendonly" in path.name for path in made)
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in made} == {0}


def test_what_an_earlier_version_left_open_is_closed(folder: Path, tmp_path: Path) -> None:
    var = tmp_path / "var"
    servers = embedded_servers(var)
    old = [var / "lake" / "main" / "old.parquet", var / "logs" / "relay-pod1.log", var / "backup" / "lake" / "x"]
    for path in old:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("facts")
        path.chmod(0o644)
        for parent in path.relative_to(var).parents:
            (var / parent).chmod(0o755)
    servers.close_to_others()
    for path in old:
        for part in (path, *path.parents):
            if part == var:
                break
            assert stat.S_IMODE(part.stat().st_mode) & 0o077 == 0, part
        assert path.read_text() == "facts"


def test_the_cache_evicts_what_is_used_least_and_the_log_refuses(folder: Path) -> None:
    servers = embedded_servers(folder)
    expected = ((servers.cache, "allkeys-lfu", CACHE_MEMORY_MB << 20), (servers.valkey, "noeviction", 0))
    for server, policy, memory_bytes in expected:
        server.start()
        try:
            with redis.Redis.from_url(server.url()) as client:
                set_to = client.config_get("maxmemory*")
            assert (set_to["maxmemory-policy"], int(set_to["maxmemory"])) == (policy, memory_bytes)
        finally:
            server.stop()
            server.wipe()
