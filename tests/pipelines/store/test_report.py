"""The line that a stage prints."""

from pipelines.store.store import Store
from tests import fakes


def test_made_and_skipped_are_told_apart(store: Store) -> None:
    build = fakes.fill(counts={"rows": 12_345})
    made, again = (store.produce(fakes.spec(), build) for _ in range(2))
    assert str(made).startswith(f"{made.artefact.ref}: made in ")
    assert "12,345 rows" in str(made)
    assert "already there" in str(again) and "same config, code version and parents" in str(again)
