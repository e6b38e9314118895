"""What may be a secret is printed nowhere: arguments of commands, addresses of webhooks, values of settings."""

import logging
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import stream.notify
from stream.cli import main
from stream.config import check
from stream.notify import Notifier

SECRET = "S3CR3T"
HEAD = 'name = "x"\ntask = "binary"\n[learners.a]\nkind = "vw"\nrole = "champion"\n'
KAFKA = '[source]\nkind = "kafka"\ntopics = ["t"]\n[source.kafka]\n"bootstrap.servers" = "127.0.0.1:1"\n'


@pytest.mark.parametrize(
    "notify",
    [
        {"command": ["false", "--header", f"Authorization: Bearer {SECRET}"]},
        {"command": [f"no-such-{SECRET}", SECRET]},
        {"command": ["sleep", "9", SECRET]},
        {"webhook": f"http://user:{SECRET}@127.0.0.1:1/hook/{SECRET}"},
        {"webhook": f"ftp://{SECRET}"},
        {"webhook": f"http://[{SECRET}"},
    ],
)
def test_who_cannot_be_told_is_said_without_secrets(
    notify: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What went wrong is said all the same."""
    monkeypatch.setattr(stream.notify, "_TRIES", 1)
    monkeypatch.setattr(stream.notify, "_SECONDS", 0.3)
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
