"""What ``snapshots export`` hands out is what Holdfast itself would load, and how to load it can be pasted."""

import hashlib
import json
from collections.abc import Callable

import msgspec
from support.lineages import Folder
from support.samples import numbers

from snapshots.records import manifest as manifests


def test_a_model_that_is_refused_is_not_handed_out(folder: Callable[..., Folder]) -> None:
    """A pickle that names something else, put into a store without signatures: nothing is written."""
    here = folder()
    here.write(numbers(300))
    here.train()
    path = here.path / "store/snapshots/000000000001/manifest.json"
    found = manifests.decode(path.read_bytes(), str(path))
    bad = b"cos\nsystem\n(S'true'\ntR."
    digest = hashlib.sha256(bad).hexdigest()
    part = found.learners["linear"]
    name = f"{part.model.name.rsplit('-', 1)[0]}-{digest[:16]}"
    (here.path / "store" / name).write_bytes(bad)
    found.learners["linear"] = msgspec.structs.replace(part, model=manifests.Part(name, len(bad), digest))
    path.write_bytes(msgspec.structs.replace(found, sha256="").encode())
    done = here.run("snapshots", "export", "1", str(here.path / "out.pkl"), code=None)
    assert done.returncode != 0
    assert "pickle.load" not in done.stdout
    assert not (here.path / "out.pkl").exists()


def test_arguments_are_one_word_each(folder: Callable[..., Folder]) -> None:
    """As a shell reads them."""
    here = folder(
        learners={"v": {"kind": "vw", "args": "--loss_function logistic --interactions 'a b'", "role": "champion"}}
    )
    here.write(numbers(100))
    here.train()
    said = here.run("snapshots", "export", "1", str(here.path / "out.vw")).stdout
    assert "--interactions 'a b'" in said
    assert json.loads(here.run("snapshots", "show", "1").stdout)["learners"]["v"]["kind"] == "vw"
