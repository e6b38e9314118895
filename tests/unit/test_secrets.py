"""What may be a secret is printed nowhere: arguments of commands, addresses of webhooks, values of settings."""

import logging
import time
from pathlib import Path
from socket import create_server
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner

import stream.guard.notify
from snapshots.store.redaction import without_passwords, without_values
from stream.cli import main
from stream.config import check
from stream.guard.notify import Notifier
from stream.process import logs
from stream.serve.http.bearer import tokens_of

SECRET = "S3CR3T"
HEAD = 'name = "x"\ntask = "binary"\n[learners.a]\nkind = "vw"\nrole = "champion"\n'
KAFKA = '[source]\nkind = "kafka"\ntopics = ["t"]\n[source.kafka]\n"bootstrap.servers" = "127.0.0.1:1"\n'


#: addresses of a store that hold more than they should
ADDRESSES = [
    *(f"{scheme}://bucket/prefix{end}" for scheme in ("s3", "https", "abfs", "file")
      for end in (f"?sig={SECRET}", f"?x=1&anything={SECRET}", f"?{SECRET}", f"#{SECRET}")),
    f"s3://{SECRET}@bucket/p", f"s3://bucket?sig={SECRET}", f"s3://[{SECRET}/p", f"s3:bucket?sig={SECRET}",
    f"store?sig={SECRET}", f"user:{SECRET}@host/bucket", f"https:/account/c?sv=2&sig={SECRET}",
]  # fmt: skip
#: a key, written where the name of its file should be
PASTED = [SECRET, f"-----BEGIN PRIVATE KEY-----\\n{SECRET}\\n-----END", f"a/{SECRET}", SECRET * 99]
KEYS = [one for key in PASTED for one in (f'private_key_file = "{key}"', f'public_key_files = ["{key}"]')]


@pytest.mark.parametrize(
    "notify",
    [
        {"command": ["false", "--header", f"Authorization: Bearer {SECRET}"]},
        {"command": [f"no-such-{SECRET}", SECRET]},
        {"command": ["sleep", "9", SECRET]},
        {"webhook": f"http://user:{SECRET}@127.0.0.1:1/hook/{SECRET}"},
        {"webhook": f"ftp://{SECRET}"},
        {"webhook": f"http://[{SECRET}"},
        {"webhook": f"http://127.0.0.1:{SECRET}/"},
        {"webhook": f"http://127.0.0.1:1/{SECRET} {SECRET}"},
        {"webhook": "http://127.0.0.1:1/" + SECRET * 100},
    ],
)
def test_who_cannot_be_told_is_said_without_secrets(
    notify: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What went wrong is said all the same."""
    monkeypatch.setattr(stream.guard.notify, "_TRIES", 1)
    monkeypatch.setattr(stream.guard.notify, "_SECONDS", 0.3)
    learners = {"a": {"kind": "vw", "role": "champion"}}
    table = {"name": "x", "task": "binary", "source": {"kind": "files"}, "learners": learners, "notify": notify}
    notifier = Notifier(check(table, Path()), time.time)
    with caplog.at_level(logging.ERROR):
        notifier.tell({"a": 1})
        notifier.close()
    assert "not told" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("more", "command"),
    [
        (KAFKA + f'"security.protocol" = "{SECRET}"', "train"),
        (KAFKA + f'"sasl.mechanism" = "{SECRET}"\n"security.protocol" = "sasl_ssl"', "train"),
        (KAFKA + f'"security.protocol" = "ssl"\n"ssl.key.pem" = "{SECRET}"', "train"),
        (KAFKA + f'"sasl.pasword" = "{SECRET}"', "train"),
        (KAFKA + f'"socket.timeout.ms" = "{SECRET}"', "train"),
        (KAFKA + f'"sasl.password" = {{ a = "{SECRET}" }}', "status"),
        (
            f'[store]\nurl = "s3://b/p"\noptions = {{ aws_secret_access_key = "{SECRET}", bogus = "{SECRET}" }}',
            "status",
        ),
        (f'[store]\noptions = {{ aws_secret_access_key = "{SECRET} }}', "status"),
        (f'[store]\noptions = {{ aws_secret_access_key = ["{SECRET}"] }}', "status"),
        (f'[store]\nurl = "s3://b/p"\noptions = {{ aws_allow_http = "{SECRET}" }}', "status"),
        (f'[store]\nurl = "s3://b/p"\noptions = {{ aws_endpoint = "x://me:{SECRET}@127.0.0.1:1" }}', "status"),
        (f'[store]\nurl = "s3://user:{SECRET}@bucket/prefix"', "status"),
        (f'[store]\nurl = "ftp://user:{SECRET}@bucket/prefix"', "status"),
        (f'[serve]\ntoken_file = ["{SECRET}"]', "status"),
        (f'[serve]\nport = "{SECRET}"', "status"),
        (f'[notify]\ncommand = "{SECRET}"', "status"),
    ],
)
def test_a_wrong_configuration_is_said_without_its_values(more: str, command: str, tmp_path: Path) -> None:
    """The message names the key."""
    path = tmp_path / "holdfast.toml"
    path.write_text(HEAD + more + "\n")
    done = CliRunner().invoke(main, ["--config", str(path), command])
    assert done.exit_code not in (0, 1), done.output
    assert SECRET not in done.output + done.stderr


@pytest.mark.parametrize("command", ["status", "train"])
@pytest.mark.parametrize(
    ("more", "said"),
    [
        *((f'[store]\nurl = "{url}"', "store.url") for url in ADDRESSES),
        *((f"[signing]\n{one}", "signing.") for one in KEYS),
    ],
)
def test_what_should_name_a_place_and_holds_a_secret(more: str, said: str, command: str, tmp_path: Path) -> None:
    """The message names the setting, and nothing of what stands there."""
    path = tmp_path / "holdfast.toml"
    path.write_text(f'{HEAD}[source]\nkind = "files"\n{more}\n')
    done = CliRunner().invoke(main, ["--config", str(path), command])
    assert done.exit_code not in (0, 1), done.output
    assert said in done.output + done.stderr
    assert SECRET not in done.output + done.stderr


@pytest.mark.parametrize("setting", ["token_file", "events_token_file", "read_token_file"])
@pytest.mark.parametrize("secret", [SECRET, SECRET * 99, f"holdfast.toml/{SECRET}", f"{SECRET}\0", f"a\n{SECRET}"])
def test_a_token_written_where_its_file_belongs(
    setting: str, secret: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It opens nothing, and stands in no log."""
    (tmp_path / "holdfast.toml").write_text("")
    table = {"name": "x", "task": "binary", "source": {"kind": "files"}, "learners": {"a": {"kind": "vw"}}}
    found = tokens_of(check({**table, "serve": {setting: secret}}, tmp_path), {}, time.monotonic)
    assert {one.current() for one in (found.changes, found.events, found.read) if one is not None} == {None}
    assert SECRET not in caplog.text
    assert caplog.text == "" or f"serve.{setting}" in caplog.text


def test_who_answers_what_is_not_http_is_said_without_the_address(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It was lost without a word."""
    monkeypatch.setattr(stream.guard.notify, "_TRIES", 1)
    with create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.recv(1000)
                connection.sendall(f"{SECRET}\r\n\r\n".encode())

        thread = Thread(target=answer)
        thread.start()
        learners = {"a": {"kind": "vw", "role": "champion"}}
        hook = {"webhook": f"http://127.0.0.1:{server.getsockname()[1]}/{SECRET}"}
        table = {"name": "x", "task": "binary", "source": {"kind": "files"}, "learners": learners, "notify": hook}
        notifier = Notifier(check(table, Path()), time.time)
        with caplog.at_level(logging.ERROR):
            notifier.tell({"a": 1})
            notifier.close()
        thread.join()
    assert "not HTTP" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        f"cannot reach https://user:{SECRET}@host:9000/bucket", f"https://{SECRET}@host", f"x://a:b@{SECRET}@host/",
        f"GET /b?X-Amz-Signature={SECRET}&x=1", f"at https://h/c?sv=1&sig={SECRET}: no", f"'s3://b/p?{SECRET}'",
        f"https://h/#{SECRET}", f"https://h?a={SECRET}#b", f"?sv=1&sig={SECRET}&x",
        f"http://h/?token={SECRET}", f"password={SECRET}", f"api_key={SECRET}",
    ],
)  # fmt: skip
def test_an_address_is_said_without_its_password(text: str) -> None:
    """In whatever a library writes; the logs' formatters leave it out as well."""
    assert SECRET not in without_passwords(text)
    record = logging.LogRecord("holdfast", logging.ERROR, "", 0, "%s", (text,), None)
    for form in (logs._Json(), logs._Console()):
        assert SECRET not in form.format(record)


def test_addresses_and_sentences_without_secrets_stay() -> None:
    """What helps an operator is not taken away."""
    for text in ("http://127.0.0.1:8000/docs", "see a@b.c", "mail me@host: x = 1", "s3://bucket/prefix/a@b"):
        assert without_passwords(text) == text


def test_what_a_broker_makes_a_library_say_names_no_secret() -> None:
    """The address stays, since it helps to find what is wrong."""
    settings = {"sasl.oauthbearer.config": SECRET, "sasl.password": "pw1", "bootstrap.servers": "broker.example:9092"}
    said = without_values(
        f"unrecognized beginning at: {SECRET}; pw1 at broker.example:9092", settings, but_harmless=True
    )
    assert said == (
        "unrecognized beginning at: (what sasl.oauthbearer.config says); (what sasl.password says) at "
        "broker.example:9092"
    )
