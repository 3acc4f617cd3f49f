"""The golden file that a module of tests is about."""

import pytest

from tests.models.parity.golden_files import Arrays, load, path_of


@pytest.fixture(scope="module")
def arrays(request: pytest.FixtureRequest) -> Arrays:
    """All entries of the file that the module calls GOLDEN. No test may change them."""
    return load(path_of(request.module.GOLDEN))
