"""Promise 9, the second wall: a process that loads models may not write, execute or connect."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.lineages import Folder, wait_for
from support.samples import numbers

from stream.process import wall

#: what a model that was taken over would try; each line is one attempt, and leaves a trace outside when it succeeds
ATTEMPTS = {
    "write": "open(OUT + '/new', 'w').write('x')",
    "append": "open(OUT + '/there', 'ab').write(b'x')",
    "truncate": "os.truncate(OUT + '/there', 0)",
    "remove": "os.unlink(OUT + '/there')",
    "rename": "os.rename(OUT + '/there', OUT + '/moved')",
    "link": "os.symlink('/etc', OUT + '/link')",
    "hard link": "os.link(OUT + '/there', OUT + '/link')",
    "folder": "os.mkdir(OUT + '/folder')",
    "fifo": "os.mkfifo(OUT + '/fifo')",
    "mode": "os.chmod(OUT + '/there', 0o777)",
    "owner": "os.chown(OUT + '/there', 1, 1)",
    "execute": "os.execv('/bin/touch', ['touch', OUT + '/ran'])",
    "child": "subprocess.run(['/bin/touch', OUT + '/ran'], check=True)",
    "shell": "os.system('touch ' + OUT + '/ran') == 0 or open('/refused')",
    "listen": "socket.socket().listen()",
    "bind": "socket.socket().bind(('127.0.0.1', 0))",
    "connect": "socket.create_connection(('127.0.0.1', PORT))",
    "datagram": "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))",
    "unix socket": "socket.socket(socket.AF_UNIX).bind(OUT + '/socket')",
    "signal": "os.kill(PARENT, 0)",
    "trace": "libc.ptrace(16, PARENT, 0, 0) == 0 or open('/refused')",
    "another's memory": "libc.process_vm_readv(PARENT, None, 0, None, 0, 0) == 0 or open('/refused')",
    "io_uring": "libc.syscall(425, 1, ctypes.create_string_buffer(256)) >= 0 or open('/refused')",
    "typing into a terminal": "asked(0x5412)",
    "pasting into a terminal": "asked(0x541C)",
    "namespace": "libc.unshare(0x10000000) == 0 or open('/refused')",
}
BEGIN = """
import ctypes, fcntl, json, os, pathlib, socket, subprocess, sys
libc = ctypes.CDLL(None)
OUT, PORT, PARENT = sys.argv[1], int(sys.argv[2]), os.getppid()
from stream.process import wall
said = wall.put_up([pathlib.Path(sys.argv[3])])
did = []
def asked(request):
    try:
        fcntl.ioctl(0, request, b"x")
    except OSError as cause:
        return cause.errno != 1 or open("/refused")  # the kernel was asked, and found no terminal
for name, attempt in json.load(sys.stdin).items():
    try:
        eval(attempt)
        did.append(name)
    except OSError:
        pass
open(sys.argv[3] + "/scratch", "w").write("this may be written")
print(json.dumps([said, did]))
"""


def test_nothing_that_a_model_could_try_leaves_a_trace(tmp_path: Path) -> None:
    """Looked at from outside; the scratch folder alone can be written."""
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    out.mkdir()
    scratch.mkdir()
    (out / "there").write_text("precious")
    before = (out / "there").stat()
    done = subprocess.run(
        [sys.executable, "-c", BEGIN, str(out), "9", str(scratch)],
        input=json.dumps(ATTEMPTS), capture_output=True, text=True, check=True,
    )  # fmt: skip
    said, did = json.loads(done.stdout)
    if said != "whole":
        pytest.skip(f"this kernel has no whole wall: {said}")
    assert did == []
    assert [path.name for path in out.iterdir()] == ["there"]
    after = (out / "there").stat()
    assert (after.st_mode, after.st_uid, after.st_size) == (before.st_mode, before.st_uid, before.st_size)
    assert (scratch / "scratch").read_text() == "this may be written"


HIJACKED = """
import os, pathlib, socket, subprocess
from river import dummy, base

class Hijacked(base.Classifier):
    def __init__(self): self.did = 0
    def learn_one(self, x, y): self.attack(x)
    def predict_proba_one(self, x):
        self.attack(x)
        return {True: 0.5, False: 0.5}
    def attack(self, x):
        if "f0" not in x: return  # the trial at the start is of the operator's own code, before there is a wall
        for attempt in (lambda: open("%(out)s", "w").write("x"), lambda: socket.socket(),
                        lambda: subprocess.run(["touch", "%(out)s"])):
            try: attempt()
            except OSError: pass

def linear(): return Hijacked()
"""


def test_a_learner_that_was_taken_over_does_nothing(folder: Callable[..., Folder], tmp_path: Path) -> None:
    """In the processes that learn, judge and serve: all go on, and status says how each is shut in."""
    out = tmp_path / "out"
    learner = {"kind": "river", "factory": "model:linear", "role": "champion", "types": ["model:Hijacked"]}
    here = folder(learners={"linear": learner}, holdout__rate=0.1)
    (here.path / "model.py").write_text(HIJACKED % {"out": out})
    here.write(numbers(300))
    here.run("train", "--until-end")
    assert "pass" in here.run("guard", "--once").stdout
    here.start("up")
    here.wait_ready()
    with here.http() as client:
        assert client.post("/predict", json={"x": {"f0": 1.0}}).json()["probability"] == 0.5
    here.write(numbers(20, first=300))
    walls = wait_for(lambda: found if len(found := here.status()["wall"]) == 3 else None, 90)
    assert here.learner()["events"]["learnt"] > 200
    assert not out.exists()
    assert set(walls.values()) == {"whole"} or all("no " in said for said in walls.values())


def test_where_it_is_switched_off_it_is_said() -> None:
    """The words that status shows."""
    assert "wall.enabled" in wall.OFF
