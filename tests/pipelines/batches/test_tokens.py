"""Tokens at rest: what is appended in pieces comes back whole, and missing rows are no artefact."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.batches import tokens
from pipelines.batches.tokens import NAME, TokenWriter, memory_mapped
from pipelines.errors import WorldlineError
from pipelines.store.store import Store
from tests.fakes import spec


def rows(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 1 << 16, (count, 4), dtype=np.uint16)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.integers(0, 25), min_size=1, max_size=8).filter(sum))
def test_any_pieces_across_shards_come_back(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, pieces: list[int]
) -> None:
    monkeypatch.setattr(tokens, "CHUNK", 8)
    monkeypatch.setattr(tokens, "SHARD", 16)
    path = tmp_path_factory.mktemp("tokens") / NAME
    values = rows(sum(pieces))
    writer = TokenWriter(path, len(values), 4)
    for piece in np.split(values, np.cumsum(pieces)[:-1]):
        writer.append(piece)
    writer.close()
    assert np.array_equal(zarr.open_array(store=str(path), mode="r")[:], values)


@pytest.mark.parametrize("written", [0, 9])
def test_missing_rows_are_refused(tmp_path: Path, written: int) -> None:
    writer = TokenWriter(tmp_path / NAME, 10, 4)
    writer.append(rows(written))
    with pytest.raises(WorldlineError, match=f"{written} token rows were written, 10 were announced"):
        writer.close()


def test_the_memory_map_is_unpacked_once_and_read_only(store: Store, tmp_path: Path) -> None:
    values = rows(100)

    def build(draft) -> None:
        writer = TokenWriter(draft.path(NAME), 100, 4)
        writer.append(values)
        writer.close()

    artefact = store.produce(spec("tokens"), build).artefact
    first = memory_mapped(artefact, tmp_path)
    assert np.array_equal(first, values)
    assert first.dtype == np.uint16
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1
    (path,) = tmp_path.glob("tokens-*.npy")
    before = path.stat().st_mtime_ns
    assert np.array_equal(memory_mapped(artefact, tmp_path), values)
    assert path.stat().st_mtime_ns == before
    assert list(tmp_path.glob(".tokens-*")) == []
