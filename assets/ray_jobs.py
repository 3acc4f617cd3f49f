"""Runs as jobs of a Ray cluster; a file of its own, as Dagster loads the launcher by its name where Ray is installed.

docs/ray.md has the lines of dagster.yaml that name it.
"""

from dagster_ray import RayRunLauncher

from assets.orphans import OfLaunched


class RayLauncher(OfLaunched, RayRunLauncher):
    """Dagster's launcher for Ray, which leaves runs alone that it never started."""
