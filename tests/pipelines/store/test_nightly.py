"""Every artefact has its night, whatever comes and goes; what is wrong with it has a line, and stops no other's."""

import os
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UsageError
from pipelines.store.artefact import Artefact
from pipelines.store.nightly import is_due, verify_share
from pipelines.store.ref import Ref
from pipelines.store.store import Store
from tests.fakes import make

DAY = date(2026, 11, 27)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@given(st.integers(0, 2**64 - 1), st.dates(max_value=date(9000, 1, 1)), st.integers(1, 90))
def test_each_has_exactly_one_night_in_any_row_of_them(key: int, day: date, nights: int) -> None:
    ref = Ref("scores", "demo-1a2b3c4d/Pong", f"{key:016x}")
    assert sum(is_due(ref, day + timedelta(night), nights) for night in range(nights)) == 1


def test_shares_are_about_equal() -> None:
    refs = [Ref("scores", "demo-1a2b3c4d/Pong", f"{number:016x}") for number in range(3000)]
    shares = [sum(is_due(ref, DAY + timedelta(night), 30) for ref in refs) for night in range(30)]
    assert sum(shares) == 3000 and min(shares) > 50 and max(shares) < 150


def test_nights_together_look_at_all_and_find_what_one_byte_changed(store: Store) -> None:
    made = [make(store, "trajectories", seed=seed) for seed in range(7)]
    flip(made[3])
    found = [verify_share(store, DAY + timedelta(night), 3) for night in range(3)]
    assert sum(share.artefacts for share in found) == 7 and {share.total for share in found} == {7}
    assert sum(share.bytes for share in found) == sum(each.manifest.total_bytes for each in made)
    [line] = [line for share in found for line in share.faults]
    path, repair = made[3].path("data.bin"), f"delete {made[3].place} and make it again (worldline downsample "
    assert line.startswith(f"{made[3].ref} is damaged: {path}: sha256 differs from the manifest; {repair}")


def test_every_fault_has_its_line(store: Store) -> None:
    gone, longer, stranger, altered = (make(store, "trajectories", seed=seed) for seed in range(4))
    sound = make(store, "segments")
    gone.path("data.bin").unlink()
    longer.path("data.bin").write_text("payload and more")
    (stranger.place / "notes.txt").write_text("not mine")
    manifest = altered.place / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"seed": 3', '"seed": 4'))
    share = verify_share(store, DAY, 1)
    assert (share.artefacts, share.total, len(share.faults)) == (5, 5, 4)
    said = {line.split(" is damaged")[0].split(":")[0]: line for line in share.faults}
    assert str(sound.ref) not in said
    assert "data.bin: missing; delete " in said[str(gone.ref)]
    assert "16 bytes, the manifest says 7" in said[str(longer.ref)]
    assert said[str(stranger.ref)].endswith("notes.txt is not in its manifest: move it elsewhere")
    assert "give the key" in said[str(altered.ref)]
    assert str(share) == "Re-hashed 5 of 5 artefacts, 0.1 kB: 4 faults"


def test_a_manifest_that_cannot_be_read_is_told_on_any_night(store: Store) -> None:
    made = make(store, "trajectories")
    (made.place / "manifest.json").write_text("{")
    for night in range(2):
        share = verify_share(store, DAY + timedelta(night), 2)
        [line] = share.faults
        assert line.startswith(f"{made.ref}: {made.place}") and (share.artefacts, share.total) == (0, 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_now_is_no_damage(store: Store) -> None:
    made = make(store, "trajectories")
    made.path("data.bin").chmod(0)
    [line] = verify_share(store, DAY, 1).faults
    assert "is damaged" not in line and "data.bin" in line


@pytest.mark.parametrize("how", ["removed", "made anew"])
def test_what_went_or_was_made_anew_meanwhile_is_no_fault(
    store: Store, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    made, faults = make(store, "trajectories"), Artefact.faults

    def late(artefact: Artefact, rehash: bool) -> list[str]:
        """Somebody else was faster."""
        store.remove(artefact)
        if how == "made anew":
            make(store, "trajectories", text="other bytes")
        return faults(artefact, rehash)

    monkeypatch.setattr(Artefact, "faults", late)
    share = verify_share(store, DAY, 1)
    assert share.artefacts == 1 and share.faults == () and made.ref


def test_an_empty_store_is_sound_and_less_than_a_night_is_refused(store: Store) -> None:
    assert str(verify_share(store, DAY)) == "Re-hashed 0 of 0 artefacts, 0.0 kB: every file as its manifest says"
    with pytest.raises(UsageError, match="1 in 0 nights is impossible"):
        verify_share(store, DAY, 0)


def flip(artefact: Artefact) -> None:
    """Another byte, the same size."""
    path = artefact.path("data.bin")
    raw = path.read_bytes()
    path.write_bytes(bytes([raw[0] ^ 1]) + raw[1:])
