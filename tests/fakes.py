"""Stand-ins that tests share: small stages made through the real store, and Python programs to be killed."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
from PIL import Image

from pipelines.store.artefact import Artefact, Draft
from pipelines.store.ref import Ref
from pipelines.store.stage_config import Spec
from pipelines.store.store import Store

ROOT = Path(__file__).resolve().parents[1]
COLLECTION_ROOT = {
    "game": "Freeway",
    "rom_md5": "8e0ab801b1705a740b476b7f588c6d16",
    "ale_py": "0.12.1",
    "policy": "script",
    "seeds": [0, 1],
}


def save_empty(drawn: Any, path: Path) -> None:
    """Save a figure as one colour of its size, in place of `style.save`."""
    width, height = drawn.get_size_inches() * drawn.dpi
    Image.new("P", (round(width), round(height))).save(path, format="PNG")


def spec(stage: str = "trajectories", subject: str = "Freeway", parents: tuple[Ref, ...] = (), **config: Any) -> Spec:
    """A spec with code version 1."""
    return Spec(stage, subject, "1", config, parents)


def fill(text: str = "payload", **fields: Any) -> Callable[[Draft], None]:
    """A build function that writes `data.bin` and `sub/more.bin`, and sets the draft's `counts`, `roots`, ... ."""

    def build(draft: Draft) -> None:
        draft.path("data.bin").write_text(text)
        draft.path("sub/more.bin").write_text(text[::-1])
        for name, value in fields.items():
            setattr(draft, name, value)

    return build


def with_parts(**parts: str) -> Callable[[Draft], None]:
    """A build function that writes a file `<name>.bin` for each part, with that text, and names it as a part."""

    def build(draft: Draft) -> None:
        for name, text in parts.items():
            draft.path(f"{name}.bin").write_text(text)
            draft.part(name, files=[f"{name}.bin"])

    return build


def make(store: Store, stage: str, parents: tuple[Ref, ...] = (), text: str = "payload", **config: Any) -> Artefact:
    """One finished artefact of `Freeway`."""
    return store.produce(spec(stage, parents=parents, **config), fill(text, counts={"rows": 3})).artefact


def chain(store: Store) -> dict[str, Artefact]:
    """collected_replay -> replay -> trajectories and tokens; scores from both, so that `replay` is reached twice."""
    collected = store.produce(
        spec("collected_replay", seed=0), fill("raw", counts={"frames": 30_000}, roots=[COLLECTION_ROOT])
    ).artefact
    replay = make(store, "replay", (collected.ref,))
    trajectories = make(store, "trajectories", (replay.ref,))
    tokens = make(store, "tokens", (replay.ref,))
    scores = make(store, "scores", (trajectories.ref, tokens.ref))
    return {each.ref.stage: each for each in (collected, replay, trajectories, tokens, scores)}


def flip_byte(path: Path, at: int = 0) -> None:
    """Damage a file without changing its size."""
    raw = bytearray(path.read_bytes())
    raw[at] ^= 0xFF
    path.write_bytes(bytes(raw))


def crc32c_of(path: Path) -> str:
    """Hex crc32c of a file, the checksum that object stores publish."""
    return google_crc32c.Checksum(path.read_bytes()).hexdigest().decode()


class Synced:
    """Which files were synced, from now on: `Synced(monkeypatch)`, then `path in synced`, as it is now."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._seen: set[tuple[int, int]] = set()
        real = os.fsync

        def fsync(handle: int) -> None:
            real(handle)
            self._seen.add((os.fstat(handle).st_ino, os.fstat(handle).st_mtime_ns))

        monkeypatch.setattr(os, "fsync", fsync)

    def __contains__(self, path: Path) -> bool:
        return (path.stat().st_ino, path.stat().st_mtime_ns) in self._seen


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    """Run Python code in a process of its own, from the repository's root; arguments arrive in sys.argv[1:]."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[str], timeout: float = 60.0) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a started program."""
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def wait_for(condition: Callable[[], bool], timeout: float = 60.0) -> None:
    """Poll until `condition` holds; AssertionError after `timeout` seconds."""
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.02)
