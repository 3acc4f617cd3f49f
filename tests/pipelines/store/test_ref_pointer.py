"""Pointer files read back; what is damaged is said by name."""

from pathlib import Path

import pytest

from pipelines.errors import WorldlineError
from pipelines.store.ref import Pointer, Ref


def test_a_pointer_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(Pointer("scores/Freeway/abc", "f" * 64).to_bytes())
    assert Pointer.read(path) == Pointer("scores/Freeway/abc", "f" * 64)
    assert Pointer.read(path).target == Ref("scores", "Freeway", "abc")


@pytest.mark.parametrize(
    "raw", [b"", b"\xff", b"[1]", b'{"ref": "/etc/passwd"}', b'{"ref": null}', b'{"manifest_sha256": ""}']
)
def test_damage_is_one_line(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(raw)
    with pytest.raises(WorldlineError, match=r"a\.json is not a readable pointer") as caught:
        Pointer.read(path)
    assert "\n" not in str(caught.value)
