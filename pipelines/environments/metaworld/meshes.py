"""Coarser meshes for small frames: what is smaller than a pixel is merged before it is drawn.

Meta-world's arm is 68,000 triangles, which a processor turns, shades and throws away for a frame of 64x64. Space is cut
into cubes; all corners of a mesh in one cube become the one that is nearest to their mean, and triangles that collapse
or come twice go (vertex clustering: Rossignac and Borrel 1993). Only what is drawn changes: physics keeps its meshes.
Letters: V corners of a mesh, F its triangles, K triangles that stay.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST = 300  # triangles, below which a mesh stays as it is: plain boxes have corners to lose and no time to win


def coarse(
    corners_V3: NDArray[np.floating], faces_F3: NDArray[np.integer], cell: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The mesh merged in cubes of `cell` metres: (K, 3) corners by their index, and (K,) which triangles these were."""
    cubes_V3 = np.floor(corners_V3 / cell).astype(np.int64)
    _, cube_V, sizes = np.unique(cubes_V3, axis=0, return_inverse=True, return_counts=True)
    cube_V = cube_V.reshape(-1)
    means = np.zeros((len(sizes), 3))
    np.add.at(means, cube_V, corners_V3)
    away_V = ((corners_V3 - (means / sizes[:, None])[cube_V]) ** 2).sum(axis=1)
    nearest_first_V = np.lexsort((away_V, cube_V))
    chosen = nearest_first_V[np.cumsum(sizes) - sizes]  # a corner for each cube
    merged_F3 = cube_V[faces_F3]
    whole = np.flatnonzero((merged_F3 != np.roll(merged_F3, 1, axis=1)).all(axis=1))
    _, first = np.unique(np.sort(merged_F3[whole], axis=1), axis=0, return_index=True)
    kept_K = whole[np.sort(first)]
    return chosen[merged_F3[kept_K]], kept_K


@contextmanager
def coarser(model: Any, cell: float) -> Iterator[None]:
    """A model's meshes merged in cubes of `cell` metres (0: none) within, for who reads them there; then as before."""
    changed = [model.mesh_face, model.mesh_facenormal, model.mesh_facetexcoord, model.mesh_facenum]
    before = [array.copy() for array in changed]
    try:
        for mesh in range(model.nmesh if cell else 0):
            corners = slice(model.mesh_vertadr[mesh], model.mesh_vertadr[mesh] + model.mesh_vertnum[mesh])
            start, count = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
            if count < LEAST:
                continue
            faces, kept = coarse(model.mesh_vert[corners], model.mesh_face[start : start + count], cell)
            model.mesh_face[start : start + len(kept)] = faces
            for each in (model.mesh_facenormal, model.mesh_facetexcoord):
                each[start : start + len(kept)] = each[start + kept]
            model.mesh_facenum[mesh] = len(kept)
        yield
    finally:
        for array, old in zip(changed, before, strict=True):
            array[:] = old
