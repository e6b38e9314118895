"""``holdfast report``: what happened, as one file that somebody can be sent; everything that it needs is in it."""

import errno
import os
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson

from stream.console.seen import CLASSES, Seen
from stream.terminal.safe_text import shown

_POINTS = 2000
_MOST_DECISIONS = 500
#: what would end a script inside of it
_END, _NO_END = "</script", "<\\/script"
#: nothing is loaded from anywhere
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


def write_report(seen: Seen, path: Path, since: float, until: float) -> None:
    """Write the report on the time between two moments (Unix seconds) to ``path``, whole or not at all.

    Raises :class:`OSError` where something is there that is no file: a link, a pipe, a device.
    """
    if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
        raise OSError(errno.EINVAL, "a link, a pipe or a device is there, and no file")
    text = page(seen, since, until)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.resolve().parent, delete=False) as file:
        try:
            file.write(text)
            file.flush()
            Path(file.name).chmod(0o644 & ~_umask())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _umask() -> int:
    before = os.umask(0)
    os.umask(before)
    return before


def page(seen: Seen, since: float, until: float) -> str:
    """The report as HTML."""
    status, history, marks = seen.status(), seen.history(since, until, _POINTS), seen.marks(since, until)
    here, plotly = Path(str(files("stream.console"))) / "static", Path(str(files("plotly"))) / "package_data"
    figures = sorted({name for one in history["learners"].values() for name in one["recent"]} - {"n", "unpredicted"})
    data = {"history": history, "marks": marks, "figure": status["figure"], "figures": figures}
    begin = history["times"][0] if history["times"] else since
    scripts = "".join(
        f"<script>{(folder / name).read_text('utf-8').replace(_END, _NO_END)}</script>"
        for folder, name in ((plotly, "plotly.min.js"), (here, "pictures.js"), (here, "report.js"))
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{_text(seen.name)}: report</title><style>{(here / "console.css").read_text("utf-8")}</style></head>
<body><header><h1><span class="brand">Holdfast</span> {_text(seen.name)}</h1>
<p id="state">{_moment(begin)} to {_moment(until)}</p></header><main>
{_findings(status["findings"])}
<section class="wide"><h2>Quality</h2><p class="choices"><label>Figure <select id="figure"></select></label></p>
<div id="quality" class="picture tall"></div></section>
<section class="wide"><h2>Learners at the end</h2>{_learners(status)}</section>
<section><h2>The stream</h2>{_equation(status)}<div id="rate" class="picture"></div></section>
<section><h2>Slices, worst first</h2><div class="scroll short">{_slices(status)}</div></section>
<section class="wide"><h2>What happened</h2>{_decisions(marks)}</section>
</main><script type="application/json" id="data">{_json(data)}</script>{scripts}</body></html>
"""


def _json(data: Any) -> str:
    """JSON that ends no script element."""
    return orjson.dumps(data).decode().replace("<", "\\u003c")


def _text(value: object) -> str:
    return escape(shown(value, 1000))


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}Z" if seconds else "-"


def _table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    head = "".join(f'<th scope="col">{_text(one)}</th>' for one in heads)
    body = "".join(f"<tr>{''.join(f'<td>{_text(one)}</td>' for one in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if body else "<p>Nothing.</p>"


def _findings(found: list[dict[str, str]]) -> str:
    said = "".join(f'<p class="finding {one["level"]}">{_text(one["what"])}</p>' for one in found)
    return f'<section class="wide"><h2>When this was written</h2>{said}</section>' if said else ""


def _learners(status: dict[str, Any]) -> str:
    figures = [status["figure"], *(["log_loss"] if status["figure"] == "accuracy" else ["rmse"])]
    return _table(
        ["learner", "role", *(f"recent {one}" for one in figures), "learnt", "quarantined", "verdict", "why"],
        (
            [name, one["role"], *(_figure((one.get("recent") or {}).get(key)) for key in figures),
             f"{one['events']['learnt']:,}", f"{one['events']['quarantined']:,}", one["verdict"] or "none yet",
             one["why"] or ""]
            for name, one in status["learners"].items()
        ),
    )  # fmt: skip


def _equation(status: dict[str, Any]) -> str:
    champion = status["learners"].get(status["champion"] or "")
    if champion is None:
        return "<p>No event has been learnt yet.</p>"
    events = champion["events"]
    return _table(
        [f"{events['consumed']:,} consumed", ""], ([one, f"{events[one]:,}"] for one in CLASSES if events.get(one))
    )


def _slices(status: dict[str, Any]) -> str:
    champion, figure = status["learners"].get(status["champion"] or "") or {}, status["figure"]
    worse = -1.0 if figure == "mae" else 1.0
    found = [(name, one) for name, one in (champion.get("slices") or {}).items() if one.get(figure) is not None]
    found.sort(key=lambda one: worse * float(one[1][figure]))
    return _table(["slice", figure, "events"], ([name, _figure(one[figure]), f"{one['n']:,}"] for name, one in found))


def _decisions(marks: list[dict[str, Any]]) -> str:
    return _table(
        ["when", "what", "about", "by", "why"],
        (
            [_moment(one["time"]), one["what"].replace("_", " "), one["learner"] or "", one["by"], one["why"] or ""]
            for one in marks[-_MOST_DECISIONS:]
        ),
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
