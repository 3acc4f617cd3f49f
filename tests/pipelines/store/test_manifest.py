"""Manifests: they round-trip, and a damaged or hostile one is one clear error."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import WorldlineError
from pipelines.store.manifest import CheckEntry, FileEntry, Manifest, ParentEntry, digest

MANIFEST = Manifest(
    stage="tokens",
    subject="Freeway",
    key="0" * 16,
    code_version="1",
    config={"length": 8},
    parents=(ParentEntry("trajectories/Freeway/abc", "f" * 64),),
    files=(FileEntry("data.bin", 3, "e" * 64),),
    roots=({"game": "Freeway", "seeds": [0, 1]},),
    counts={"rows": 3},
    checks=(CheckEntry("rows", True, True, "3 rows"),),
)


def changed(**fields: Any) -> bytes:
    return json.dumps({**json.loads(MANIFEST.to_bytes()), **fields}).encode()


def test_a_manifest_reads_back_and_its_digest_follows_its_bytes() -> None:
    raw = MANIFEST.to_bytes()
    assert Manifest.from_bytes(raw, "here") == MANIFEST
    assert digest(raw) != digest(raw + b"\n")
    assert MANIFEST.total_bytes == 3


def test_numpy_numbers_become_plain_ones_and_other_objects_are_named() -> None:
    raw = Manifest(
        **{**vars(MANIFEST), "counts": {"rows": np.int64(7)}, "metrics": {"loss": np.float32(0.5)}}
    ).to_bytes()
    read = Manifest.from_bytes(raw, "here")
    assert (read.counts, read.metrics) == ({"rows": 7}, {"loss": 0.5})
    with pytest.raises(TypeError, match="set"):
        Manifest(**{**vars(MANIFEST), "metrics": {"games": {"Pong"}}}).to_bytes()


@given(st.data())
def test_truncated_manifests_are_refused(data: st.DataObject) -> None:
    raw = MANIFEST.to_bytes()
    cut = data.draw(st.integers(0, len(raw) - 3))
    with pytest.raises(WorldlineError, match=r"tokens/x is not a readable manifest .*delete that artefact's folder"):
        Manifest.from_bytes(raw[:cut], "tokens/x")


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_noise_is_refused(raw: bytes) -> None:
    with pytest.raises(WorldlineError):
        Manifest.from_bytes(raw, "here")


@pytest.mark.parametrize(
    "fields",
    [
        {"files": [{"path": "../../etc/passwd", "bytes": 1, "sha256": "e"}]},
        {"files": [{"path": "/etc/passwd", "bytes": 1, "sha256": "e"}]},
        {"files": [{"path": "", "bytes": 1, "sha256": "e"}]},
        {"files": [{"path": "x", "bytes": "1", "sha256": "e"}]},
        {"files": [{"path": "x", "bytes": 1}]},
        {"files": 3},
        {"parents": [{"ref": "../../../etc", "manifest_sha256": "f"}]},
        {"parents": [{"ref": 7, "manifest_sha256": "f"}]},
        {"parents": [{"ref": "a/b/c", "manifest_sha256": "f", "part": 3}]},
        {"parts": []},
        {"parts": {"frames": {"sha256": 3}}},
        {"parts": {"frames": {"sha256": "e", "files": 3}}},
        {"parts": {"frames": {"sha256": "e", "files": ["../data.bin"]}}},
        {"config": []},
        {"counts": None},
        {"stage": 1},
        {"surprise": 1},
    ],
)
def test_hostile_fields_are_refused_in_one_line(fields: dict[str, Any]) -> None:
    with pytest.raises(WorldlineError, match="here is not a readable manifest") as caught:
        Manifest.from_bytes(changed(**fields), "here")
    assert "\n" not in str(caught.value)


def test_deep_nesting_and_other_formats_are_refused() -> None:
    with pytest.raises(WorldlineError, match="not a readable manifest"):
        Manifest.from_bytes(b"[" * 200_000, "here")
    with pytest.raises(WorldlineError, match="manifest format 2, this version reads 1: upgrade Worldline"):
        Manifest.from_bytes(changed(format=2), "here")
