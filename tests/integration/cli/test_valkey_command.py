"""The log's server is asked through `tieout valkey`: reading at once, changing only when somebody agrees."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import redis
from typer.testing import CliRunner, Result

from cli.app import app
from contracts.errors import InputError
from stack.composition import session


@pytest.fixture
def client(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """The server's client; `tieout valkey` asks the same server."""
    monkeypatch.setattr(session, "settings_here", lambda: SimpleNamespace(log_url=valkey_url))
    with redis.Redis.from_url(valkey_url, decode_responses=True) as made:
        yield made
        made.config_set("maxmemory", 0)


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["valkey", *words])


def test_what_only_reads_is_answered_at_once(client: redis.Redis) -> None:
    client.xadd("a stream", {"event": "one\x1b"})
    client.hset("a hash", mapping={"name": "value"})
    assert run("xlen", "a stream").output == "1\n"
    assert "used_memory:" in run("INFO", "memory").output
    assert run("config", "get", "maxmemory").output == "maxmemory: 0\n"
    assert run("hgetall", "a hash").output == "name: value\n"
    assert run("get", "nothing").output == "(nothing)\n"
    assert run("--", "xrange", "a stream", "-", "+").output.split()[1:] == ["event", "one\x1b"]


def test_what_changes_something_is_asked_for(client: redis.Redis) -> None:
    refused = run("config", "set", "maxmemory", "64mb")
    assert isinstance(refused.exception, InputError) and "nobody can be asked" in str(refused.exception)
    assert "config set maxmemory 64mb" in run("--dry-run", "config", "set", "maxmemory", "64mb").output
    assert client.config_get("maxmemory") == {"maxmemory": "0"}
    assert run("--yes", "config", "set", "maxmemory", "64mb").output.endswith("OK\n")
    assert client.config_get("maxmemory") == {"maxmemory": str(64 * 1024 * 1024)}


def test_what_the_server_refuses_is_one_sentence(client: redis.Redis) -> None:
    wrong = run("--yes", "no-such-command")
    assert isinstance(wrong.exception, InputError)
    assert str(wrong.exception).startswith("The log's server refuses no-such-command: ")
