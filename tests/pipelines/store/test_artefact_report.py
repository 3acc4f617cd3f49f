"""The line that a stage prints."""

from pipelines.store.artefact import Draft
from pipelines.store.store import Store
from tests import fakes


def test_made_and_skipped_are_told_apart(store: Store) -> None:
    build = fakes.fill(counts={"rows": 12_345})
    made, again = (store.produce(fakes.spec(), build) for _ in range(2))
    assert str(made).startswith(f"{made.artefact.ref}: made in ")
    assert "12,345 rows" in str(made)
    assert made.findings == [] and not made.blocked
    assert "already there" in str(again) and "same config, code version and parents" in str(again)


def test_failed_checks_are_said_and_a_blocking_one_is_told_apart(store: Store) -> None:
    def build(draft: Draft) -> None:
        draft.path("file.txt").write_text("rows")
        draft.check("fine", True, "all is well")
        draft.check("no_gap", False, "1 gap")
        draft.check("rewards", False, "3 odd rewards", blocking=True)

    report = store.produce(fakes.spec(), build)
    assert report.findings == [
        "  note: no_gap, 1 gap",
        "  failed, nothing may be made from this: rewards, 3 odd rewards",
    ]
    assert report.blocked and str(report).endswith("3 odd rewards")
