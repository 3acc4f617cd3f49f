"""Tests here run on both stores."""

from tests.buckets.fixtures import bucket  # noqa: F401
