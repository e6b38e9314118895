"""Write docs/reference.md from the code: commands, endpoints, metrics, reasons for refusal.

``make fix`` runs it; ``tests/test_docs.py`` fails when the file is not what this would write.
"""

from pathlib import Path

import click

from stream.cli import main as command
from stream.refusal import MEANING
from stream.serve import doors
from stream.serve.api import build_app
from stream.serve.current import Server
from stream.serve.http.bearer import Token, Tokens
from stream.serve.http.metrics import METRICS
from stream.serve.predict import Answers
from stream.serve.prometheus import RequestCounts
from stream.settings import Config

PATH = Path(__file__).parents[1] / "docs" / "reference.md"


def commands(group: click.Group, words: str) -> list[str]:
    """A section for every command below a group."""
    lines: list[str] = []
    for name, one in sorted(group.commands.items()):
        if one.hidden:
            continue
        lines += [f"### `{words} {name}`", "", (one.help or "").strip(), ""]
        rows = [_parameter(parameter) for parameter in one.params]
        if any(rows):
            lines += ["| parameter | meaning |", "|---|---|", *filter(None, rows), ""]
        if isinstance(one, click.Group):
            lines += commands(one, f"{words} {name}")
    return lines


def _parameter(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Option):
        return f"| `{', '.join(parameter.opts)}` | {parameter.help or ''} |"
    return f"| `{parameter.make_metavar(click.Context(command))}` | |"


def endpoints() -> list[str]:
    """Every HTTP endpoint with its summary."""
    server = Server.__new__(Server)
    server.now = lambda: 0.0
    server.config = Config(name="x", task="binary", learners={})
    token = Token(Path(), "none", lambda: 0.0)
    app = build_app(server, Answers.__new__(Answers), RequestCounts(), tokens := Tokens(token, token, token, token))
    doors.add_events(app, server, RequestCounts(), tokens)
    doors.add_labels(app, server, RequestCounts(), tokens)
    rows = [
        f"| `{method.upper()} {path}` | {one.get('summary', '')} |"
        for path, methods in app.openapi()["paths"].items()
        for method, one in methods.items()
    ]
    return ["| endpoint | meaning |", "|---|---|", *rows]


def text() -> str:
    """The whole page."""
    reasons = [f"| `{reason.value}` | {meaning} |" for reason, meaning in MEANING.items()]
    metrics = [
        f"| `{name}` | {kind} | {', '.join(labels)} | {meaning} |" for name, (kind, labels, meaning) in METRICS.items()
    ]
    return "\n".join(
        [
            _HEAD,
            *commands(command, "holdfast"),
            "## Endpoints",
            "",
            *endpoints(),
            "",
            "## Metrics",
            "",
            "| metric | kind | labels | meaning |",
            "|---|---|---|---|",
            *metrics,
            "",
            _REASONS,
            *reasons,
            "",
        ]
    )


_HEAD = """# Reference

Written from the code by `python scripts/reference.py`. Configuration keys: [configuration.md](configuration.md).

## Commands

`--config FILE` may stand before or after a command's name; its default is `holdfast.toml`, or `HOLDFAST_CONFIG`.

Exit codes: 0 done; 1 the answer is no (a snapshot failed, a digest does not hold); 2 the configuration or the command
line is wrong; 3 refused, and nothing was changed; 4 the store, the source or a learner is in trouble; 5 another
trainer writes this lineage.
"""
_REASONS = """## Reasons for refusal

The class of a dead letter, the label of `holdfast_dead_lettered_total`, and the `reason` of a 4xx answer. `/predict`
also answers `learner_refused` when the learner cannot take the features.

| reason | meaning |
|---|---|"""

if __name__ == "__main__":
    PATH.write_text(text(), "utf-8")
