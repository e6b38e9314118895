"""By which names the service may be called."""

from pathlib import Path

import pytest

from stream.config import ConfigError, check
from stream.serve.http.hosts import Hosts
from stream.settings import Serve

NAMED = Serve(hosts=["Predict.Example", "*.inner.example", "10.1.2.3"])
EVERYWHERE = Serve(host="0.0.0.0")  # noqa: S104  nothing is bound here
GUARDED = Serve(host="0.0.0.0", hosts=["predict.example"])  # noqa: S104  the same


@pytest.mark.parametrize(
    ("serve", "allowed", "refused"),
    [
        (
            Serve(),
            ["localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1", "127.0.0.1:1", "127.9.9.9", "[::1]", "[::1]:80"],
            ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", ":80", "a b", "[::1",
             "localhost:80:80", "user@localhost", "localhost/", "::1", "2130706433", "localhost:999999", "\xff", "*"],
        ),
        (Serve(host="192.168.7.1"), ["192.168.7.1:8000", "127.0.0.1"], ["192.168.7.2", "evil.example"]),
        (Serve(host="fd00::1"), ["[fd00::1]", "[fd00:0:0:0:0:0:0:1]:8000", "[::1]"], ["[fd00::2]"]),
        (
            NAMED,
            ["predict.example", "PREDICT.EXAMPLE:8000", "a.inner.example", "a.b.inner.example", "10.1.2.3"],
            ["inner.example", "xinner.example", "predict.example.evil", "10.1.2.4"],
        ),
        (EVERYWHERE, ["anything.example", "10.0.0.1", "", "::"], []),
        (GUARDED, ["predict.example", "10.0.0.1:8000", "[fd00::7]"], ["evil.example", ""]),
        (Serve(hosts=["*"]), ["anything.example"], []),
    ],
)  # fmt: skip
def test_only_names_of_the_service_are_answered(serve: Serve, allowed: list[str], refused: list[str]) -> None:
    """Against DNS rebinding; loopback always, addresses where it listens on all of them."""
    hosts = Hosts(serve)
    for _ in range(2):
        assert [name for name in allowed if hosts.refusal([(b"host", name.encode("latin-1"))], "1.1")] == []
        assert [name for name in refused if not hosts.refusal([(b"host", name.encode("latin-1"))], "1.1")] == []


def test_there_is_one_host() -> None:
    """HTTP/1.0 may have none; two are refused everywhere."""
    for serve in (Serve(), EVERYWHERE):
        hosts = Hosts(serve)
        assert hosts.refusal([(b"a", b"b")], "1.1") == "there is no header Host"
        assert hosts.refusal([], "1.0") == ""
        assert hosts.refusal([(b"host", b"localhost")] * 2, "1.1") == "there are two headers Host"
    assert "serve.hosts" in Hosts(Serve()).refusal([(b"host", b"evil.example")], "1.1")


@pytest.mark.parametrize("name", ["http://a.example", "a.example:80", "a b", "", "*.", "a*.example", "[::1]"])
def test_a_name_that_no_request_can_have_is_refused(name: str) -> None:
    """Before anything starts."""
    learners = {"a": {"kind": "vw"}}
    source = {"kind": "files"}
    table = {"name": "x", "task": "binary", "learners": learners, "source": source, "serve": {"hosts": [name]}}
    with pytest.raises(ConfigError, match=r"serve\.hosts"):
        check(table, Path())
