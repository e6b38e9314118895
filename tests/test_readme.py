"""Every command of README and tutorial, in order, as somebody types them: in a folder with the examples beside it."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from support.lineages import _free_port as free_port
from support.lineages import wait_for

ROOT = Path(__file__).parent.parent
#: what is tried elsewhere: whole suites, installations, a broker, what runs for minutes, what needs torch
_ELSEWHERE = re.compile(r"make |pip install|holdfast drill|holdfast retrain|holdfast archive import")


def commands(document: str) -> list[str]:
    """The lines of a document's blocks of commands, continued lines joined, comments left out."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    found = [re.sub(r"\s+#\s.*$", "", line).strip() for line in lines]
    return [line for line in found if line and not line.startswith("#") and not _ELSEWHERE.match(line)]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("document", ["README.md", "docs/tutorial.md"])
def test_every_command_works_in_its_order(document: str, tmp_path: Path) -> None:
    """``holdfast up`` runs on in its terminal; the others each end with 0."""
    port = free_port()
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    activate = tmp_path / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.write_text(f'PATH="{Path(sys.executable).parent}:$PATH"\n')
    environment = {
        **os.environ,
        "HOLDFAST_SERVE__PORT": str(port),
        "HOLDFAST_CONSOLE__PORT": str(free_port()),
        "PYTHONPATH": str(ROOT),
    }
    shell = subprocess.Popen(
        ["bash"], cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert shell.stdin is not None
    assert shell.stdout is not None
    try:
        for line in commands(document):
            line = line.replace(":8000", f":{port}")  # noqa: PLW2901  another may run on this machine
            if line == "holdfast up":
                shell.stdin.write("holdfast up > up.log 2>&1 &\n")
                shell.stdin.flush()
                wait_for(lambda: _ready(port), 60)
                continue
            shell.stdin.write(f"{line}\ncode=$?; echo; echo ended with $code\n")
            shell.stdin.flush()
            said = []
            while not (answer := shell.stdout.readline()).startswith("ended with"):
                said.append(answer)
            assert answer == "ended with 0\n", (line, "".join(said))
            if "curl" in line:
                assert '"detail"' not in "".join(said), (line, said)
    finally:
        os.killpg(shell.pid, signal.SIGTERM)
        shell.wait(20)


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 200
    except httpx.TransportError:
        return False
