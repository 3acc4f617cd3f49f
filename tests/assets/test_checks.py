"""A stage's verdicts reach Dagster, and damaged files are found."""

from dataclasses import dataclass
from typing import ClassVar

import dagster as dg
from PIL import Image

from assets.checks import FILES, files_check, results, specs
from pipelines.store.artefact import Draft
from pipelines.store.stage_config import StageConfig
from pipelines.store.store import Store
from tests.fakes import fill, flip_byte, spec


@dataclass(frozen=True)
class Judged(StageConfig):
    """A stage with three declared checks."""

    STAGE: ClassVar[str] = "replay"
    VERB: ClassVar[str] = "fetch"  # hints go by stage: this one must not change those of the real one
    DATA: ClassVar[bool] = True
    CODE: ClassVar[str] = "1"
    CHECKS: ClassVar[tuple[str, ...]] = ("good", "odd", "fatal")


def _judge(draft: Draft) -> None:
    fill()(draft)
    draft.check("good", True, "all fine")
    draft.check("odd", False, "one odd row")
    draft.check("fatal", False, "nothing fits", blocking=True)


def test_specs_name_the_declared_checks_and_the_files() -> None:
    assert [each.name for each in specs(Judged)] == ["good", "odd", "fatal", FILES]
    assert {each.asset_key for each in specs(Judged)} == {dg.AssetKey("replay")}


def test_results_carry_verdict_severity_and_detail(store: Store) -> None:
    found = {each.check_name: each for each in results(store.produce(spec("replay"), _judge).artefact, Judged)}
    assert {name: each.passed for name, each in found.items()} == {
        "good": True,
        "odd": False,
        "fatal": False,
        FILES: True,
    }
    assert found["odd"].severity == dg.AssetCheckSeverity.WARN
    assert found["fatal"].severity == dg.AssetCheckSeverity.ERROR
    assert found["fatal"].description == "nothing fits"


def test_a_declared_check_that_was_not_recorded_fails(store: Store) -> None:
    found = results(store.produce(spec("replay"), fill()).artefact, Judged)
    assert [each.passed for each in found] == [False, False, False, True]
    assert found[0].description == "the manifest holds no such check"


def test_one_flipped_byte_fails_the_files_check(store: Store) -> None:
    artefact = store.produce(spec("replay"), fill()).artefact
    assert files_check(artefact).passed
    flip_byte(artefact.path("data.bin"))
    check = files_check(artefact)
    assert not check.passed
    assert "data.bin: sha256 differs" in check.detail


def test_counts_and_the_picture_are_metadata(store: Store) -> None:
    def build(draft: Draft) -> None:
        fill()(draft)
        Image.new("RGB", (40, 20), "red").save(draft.path("odd.png"))
        draft.check("good", True, "fine", counts={"rows": 7, "odd": 0}, picture="odd.png")
        draft.check("odd", False, "one odd row", picture="../absent.png")

    found = {each.check_name: each for each in results(store.produce(spec("replay"), build).artefact, Judged)}
    assert found["good"].metadata["rows"] == dg.MetadataValue.int(7)
    assert found["good"].metadata["odd"] == dg.MetadataValue.int(0)
    assert found["good"].metadata["picture"].value.startswith("![odd](data:image/png;base64,")
    assert not found["odd"].metadata, "a picture that the artefact does not list is not shown"
