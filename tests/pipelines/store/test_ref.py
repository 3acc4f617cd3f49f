"""Addresses and pointers round-trip; nothing that could leave the store passes, and damage is named."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UsageError, WorldlineError
from pipelines.store.ref import LONGEST, Pointer, Ref, check_name

names = st.text(st.sampled_from("abcXYZ019_+=-"), min_size=1, max_size=12)


@given(names, st.lists(names, min_size=1, max_size=3), names)
def test_an_address_reads_back(stage: str, subject: list[str], key: str) -> None:
    ref = Ref(stage, "/".join(subject), key)
    assert Ref.parse(str(ref)) == ref


@given(st.text(max_size=20))
def test_a_name_that_passes_is_one_harmless_path_part(part: str) -> None:
    try:
        check_name(part)
    except UsageError:
        return
    assert part and part.isascii() and not part.startswith(".")
    assert not set(part) & set("/\\ \n\t\0$;&|*?~@'\"")


@pytest.mark.parametrize(
    "part", ["", ".", "..", ".hidden", "a b", "a/b", "a\n", "é", "$HOME", "a;b", "x" * (LONGEST + 1)]
)
def test_bad_names_are_refused(part: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_name(part)
    assert "\n" not in str(caught.value).replace(part, "")


@pytest.mark.parametrize("text", ["", "a", "a/b", "a/b/", "../../etc/passwd", "a/../b/c", "a//b/c"])
def test_bad_addresses_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Ref.parse(text)


def test_long_addresses_and_the_pointers_folder_are_refused() -> None:
    with pytest.raises(UsageError, match=f"at most {LONGEST}"):
        Ref("scores", "/".join(["part" * 10] * 5), "0" * 16)
    with pytest.raises(UsageError, match="'refs' cannot name a stage"):
        Ref("refs", "Freeway", "0" * 16)


# ---- pointer files read back; what is damaged is said by name ----


def test_a_pointer_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(Pointer("scores/Freeway/abc", "f" * 64).to_bytes())
    assert Pointer.from_bytes(path.read_bytes(), path) == Pointer("scores/Freeway/abc", "f" * 64)
    assert Pointer.from_bytes(path.read_bytes(), path).target == Ref("scores", "Freeway", "abc")


@pytest.mark.parametrize(
    "raw", [b"", b"\xff", b"[1]", b'{"ref": "/etc/passwd"}', b'{"ref": null}', b'{"manifest_sha256": ""}']
)
def test_damage_is_one_line(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(raw)
    with pytest.raises(WorldlineError, match=r"a\.json is not a readable pointer") as caught:
        Pointer.from_bytes(path.read_bytes(), path)
    assert "\n" not in str(caught.value)
