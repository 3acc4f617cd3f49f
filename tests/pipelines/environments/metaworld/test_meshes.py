"""Merging meshes: by hand, by properties, and on the real arm, whose physics must not know of it."""

from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.environments import registry
from pipelines.environments.metaworld.game import MetaworldRules
from pipelines.environments.metaworld.meshes import coarse, coarser


def test_corners_of_a_cube_become_the_nearest_to_their_mean() -> None:
    corners = np.array([[0.1, 0, 0], [0.4, 0, 0], [0.45, 0, 0], [1.5, 0, 0], [0.2, 1.5, 0]])
    faces = np.array([[0, 1, 3], [1, 3, 4], [4, 3, 2], [0, 3, 4]])
    found, kept = coarse(corners, faces, 1.0)
    assert kept.tolist() == [1], "one collapses, two come again"
    assert found.tolist() == [[1, 3, 4]], "0.4 is nearest to the mean of 0.1, 0.4 and 0.45"


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), cell=st.floats(0.001, 3.0))
def test_what_stays_is_of_the_mesh_and_near_to_where_it_was(seed: int, cell: float) -> None:
    draws = np.random.default_rng(seed)
    corners, faces = draws.uniform(-1, 1, (40, 3)), draws.integers(40, size=(60, 3))
    found, kept = coarse(corners, faces, cell)
    assert len(found) == len(kept) <= 60 and (np.diff(kept) > 0).all()
    assert (np.abs(corners[found] - corners[faces[kept]]) <= cell + 1e-9).all()
    assert all(len(set(face)) == 3 for face in found.tolist())
    again, _ = coarse(corners, faces, cell)
    assert np.array_equal(again, found)


def test_the_arm_looks_the_same_is_a_fifth_as_large_and_plays_alike(metaworld_here: str) -> None:
    coarse_rules, fast = registry.protocol("metaworld_coarse"), registry.protocol("metaworld_fast")
    assert isinstance(coarse_rules, MetaworldRules)
    with (
        closing(registry.make("drawer-open", [3], coarse_rules)) as ours,
        closing(registry.make("drawer-open", [3], fast)) as theirs,
    ):
        first = ours.reset(), theirs.reset()
        assert 0 < np.abs(first[0].astype(int) - first[1]).mean() < 1.5  # of 255
        model = ours._copies[0]._arm.model  # type: ignore[attr-defined]
        before = model.mesh_face.copy(), int(model.mesh_facenum.sum())
        with coarser(model, coarse_rules.detail):
            assert model.mesh_facenum.sum() < before[1] / 4
        assert np.array_equal(model.mesh_face, before[0]) and model.mesh_facenum.sum() == before[1]
        with coarser(model, 0.0):
            assert np.array_equal(model.mesh_face, before[0])
        for action in np.random.default_rng(0).uniform(-1, 1, (10, 1, 4)):
            assert ours.step(action).rewards == theirs.step(action).rewards
        assert np.array_equal(ours.states(), theirs.states())  # type: ignore[attr-defined]
        assert np.array_equal(ours.screens(), theirs.screens()), "people see every detail"  # type: ignore[attr-defined]


def test_a_mesh_is_whole_again_where_drawing_fails(metaworld_here: str) -> None:
    with closing(registry.make("reach", [3], registry.protocol("metaworld_fast"))) as game:
        model = game._copies[0]._arm.model  # type: ignore[attr-defined]
        before = model.mesh_facenum.copy()
        with pytest.raises(RuntimeError), coarser(model, 0.02):
            raise RuntimeError("no context")
        assert np.array_equal(model.mesh_facenum, before)
