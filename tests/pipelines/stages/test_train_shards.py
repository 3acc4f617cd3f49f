"""Training from shards, on a disk or in a bucket, through the stages' real doors: the same bits, whatever happens."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from pipelines.batches.segments import Segmentation
from pipelines.cli import run as command
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.errors import UsageError, WorldlineError
from pipelines.graph.experiment import check
from pipelines.graph.plan import Plan, Step
from pipelines.recipes.registry import recipe
from pipelines.stages import import_trajectories
from pipelines.stages.import_trajectories import ShardsConfig
from pipelines.store.artefact import Artefact
from pipelines.store.store import Store
from pipelines.tools.exports.export import export
from pipelines.tools.exports.webdataset import Webdataset
from tests.buckets.servers import EmulatedBucket
from tests.fakes import flip_byte
from tests.pipelines.training.distributed.test_ranks import assert_close, rows, toy_run
from tests.pipelines.training.toy_game import GAME, make_game
from tests.pipelines.training.toy_run import run

LENGTHS = (9, 33, 3, 20, 40, 12)
STAGES = ("pretrained", "world_action_model")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy game as 11 shards; tests only read them."""
    folder = tmp_path_factory.mktemp("shards")
    data, _ = make_game(Store(folder / "store"), *LENGTHS)
    played = Trajectories(data.path(FILE_NAME))
    export(data, Webdataset(played, Segmentation(played.episode_starts, 8, 4, "right"), per_shard=3), folder)
    return folder / f"{GAME}.webdataset"


def weights(folder: Path) -> dict[str, bytes]:
    found = {f"{path.parts[-4]}/{path.name}": path.read_bytes() for path in folder.rglob("*.safetensors")}
    assert len(found) == 4  # two networks of each of two stages
    return found


def made(folder: Path, stage: str) -> Artefact:
    (one,) = [each for each in Store(folder).artefacts() if each.ref.stage == stage]
    return one


def far(bucket: EmulatedBucket, shards: Path) -> dict[str, object]:
    """The options of a run that reads the same shards from a bucket."""
    bucket.put_folder(shards.parent / shards.name)
    return {"shards": bucket.root_url, "profile": asdict(bucket.profile())}


@pytest.mark.slow
def test_a_disk_and_a_bucket_give_the_same_bits_and_lineage(
    shards: Path, gcs_bucket: EmulatedBucket, tmp_path: Path
) -> None:
    loop = {"shuffle": 9}
    run(tmp_path / "near", {"shards": str(shards), "loop": loop})
    run(tmp_path / "far", {"loop": loop, **far(gcs_bucket, shards)})
    assert weights(tmp_path / "near") == weights(tmp_path / "far")
    assert all(rows(tmp_path / "near", stage) == rows(tmp_path / "far", stage) for stage in STAGES)
    for stage in STAGES:
        near, bucket = (made(tmp_path / where, stage) for where in ("near", "far"))
        assert near.ref == bucket.ref  # where the shards lie decides nothing
        listed = made(tmp_path / "near", "imported_shards")
        assert str(listed.ref) in {parent.ref for parent in near.manifest.parents}
        assert listed.path("shards.json").read_bytes() == (shards / "shards.json").read_bytes()
        assert near.manifest.metrics["sight"][GAME]["held_out_episodes"] == 1
        assert near.manifest.config["loop"]["shuffle"] == 9
    assert not list((tmp_path / "far" / ".scratch").iterdir())  # the shards that were kept for a while are gone


@pytest.mark.slow  # four processes
def test_a_killed_run_goes_on_from_its_shard_and_place_to_the_bit(
    shards: Path, gcs_bucket: EmulatedBucket, tmp_path: Path
) -> None:
    """Killed twice with a worker beside it; the run that is not killed has none."""
    loop = {"save_seconds": 0, "shuffle": 6}
    options = {"loop": {**loop, "workers": 1}, **far(gcs_bucket, shards)}
    assert toy_run(tmp_path / "whole", 1, **options | {"loop": loop})[0] == 0
    code, _ = toy_run(tmp_path / "cut", 1, kill=[5, 0, "pretrained"], **options)
    assert code == -9
    code, _ = toy_run(tmp_path / "cut", 1, kill=[7, 0, "world_action_model"], **options)
    assert code == -9
    assert not list((tmp_path / "cut").rglob("world_action_model/*/*/manifest.json"))
    assert toy_run(tmp_path / "cut", 1, **options)[0] == 0
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut")
    assert all(rows(tmp_path / "whole", stage) == rows(tmp_path / "cut", stage) for stage in STAGES)


@pytest.mark.slow  # torchrun twice
def test_two_ranks_share_the_shards_and_learn_what_one_learns(
    shards: Path, gcs_bucket: EmulatedBucket, tmp_path: Path
) -> None:
    options = far(gcs_bucket, shards)
    for name, processes in (("alone", 1), ("two", 2)):
        code, err = toy_run(tmp_path / name, processes, **options)
        assert code == 0, err
    for stage in STAGES:
        assert_close(rows(tmp_path / "alone", stage), rows(tmp_path / "two", stage))


@pytest.fixture
def copied(shards: Path, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / shards.name
    folder.mkdir()
    for path in shards.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    yield folder


def refused(folder: Path, shards: Path) -> str:
    """The line that ends a run, which leaves no checkpoint."""
    with pytest.raises(WorldlineError) as caught:
        run(folder, {"shards": str(shards), "stage": "pretrain"})
    assert "\n" not in str(caught.value)
    assert not list(folder.rglob("pretrained/*/*/manifest.json"))
    return str(caught.value)


def test_a_shard_that_is_damaged_or_replaced_ends_the_run_with_one_line(copied: Path, tmp_path: Path) -> None:
    shard = copied / "segments-000004.tar"
    flip_byte(shard, at=700)
    assert refused(tmp_path / "run", copied) == (
        f"{shard} is not the shard that shards.json lists: copy or export it again"
    )
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-512])
    assert f"{shard} has {len(whole) - 512:,} bytes, shards.json says {len(whole):,}" in refused(
        tmp_path / "run", copied
    )
    shard.unlink()
    assert f"{shard} does not exist" in refused(tmp_path / "run", copied)
    assert f"{shard} is missing, shards.json says {len(whole):,}: copy it again" in refused(tmp_path / "new", copied)


@pytest.mark.slow
def test_shards_that_were_moved_are_read_where_loop_shards_says(copied: Path, tmp_path: Path) -> None:
    listed = {"shards": str(copied), "stage": "pretrain"}
    first = run(tmp_path / "one", listed)["pretrained"]
    raw = (copied / "shards.json").read_bytes()
    listed_before = ShardsConfig(game=GAME, sha256=hashlib.sha256(raw).hexdigest(), url=str(copied))
    import_trajectories.run(listed_before, Store(tmp_path / "two"))
    (tmp_path / "else").mkdir()
    copied.rename(tmp_path / "else" / copied.name)
    with pytest.raises(WorldlineError, match="does not exist"):
        run(tmp_path / "two", listed)
    moved = run(tmp_path / "two", {**listed, "loop": {"shards": str(tmp_path / "else")}})["pretrained"]
    assert moved.ref == first.ref
    assert moved.path("model.safetensors").read_bytes() == first.path("model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"length": 9}, "was cut with length 9, stride 4, padding right, the recipe's segment says length 8, stride 4"),
        ({"padding": "left"}, "was cut with length 8, stride 4, padding left, the recipe's segment says length 8"),
        ({"game": "Pong"}, "holds Pong, not Freeway: say --game Pong"),
        ({"episode_steps": [9, 33, 3, 20, 40, 16]}, "its 6 episodes have 32 segments and its shards 31"),
        ({"frame": [64, 64, 3]}, "Frames of (64, 64, 3) are learned from and the networks see (84, 84, 1)"),
        ({"seed": -1}, "seed -1, episodes of"),
        ({"rewards": "odd"}, "is no list of segment shards"),
    ],
)
def test_a_list_of_another_export_is_one_line(copied: Path, tmp_path: Path, change: dict, words: str) -> None:
    index = json.loads((copied / "shards.json").read_text())
    (copied / "shards.json").write_text(json.dumps(index | change))
    assert words in refused(tmp_path / "run", copied)


def test_an_export_of_an_earlier_version_is_one_line(copied: Path, tmp_path: Path) -> None:
    index = json.loads((copied / "shards.json").read_text())
    del index["episode_steps"]
    (copied / "shards.json").write_text(json.dumps(index))
    assert "does not say how long its episodes are, an earlier version wrote it" in refused(tmp_path / "run", copied)


def test_segments_of_a_length_that_the_networks_do_not_read_are_one_line(copied: Path, tmp_path: Path) -> None:
    index = copied / "shards.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"length": 9}))
    sha256 = hashlib.sha256(index.read_bytes()).hexdigest()
    config = ShardsConfig(game=GAME, sha256=sha256, url=str(copied), length=9)
    import_trajectories.run(config, Store(tmp_path / "run"))
    assert "has segments of 9 steps and the networks read 8: export its trajectories with --length 8" in refused(
        tmp_path / "run", copied
    )


# ---- a recipe that streams ----

SHA = "ab" * 32


def test_a_recipe_names_its_shards_game_by_game_and_has_neither_trajectories_nor_tokens() -> None:
    changes = ["games=Pong,Freeway", "source=shards", f"shards.contents=pong:{SHA},FREEWAY:{SHA[::-1]}"]
    plan = Plan(recipe("mini", changes))
    assert plan.stages == ("imported_shards", "pretrained", "world_action_model", "scores")
    listed = plan.config(Step("imported_shards", "Freeway"))
    assert listed == ShardsConfig(game="Freeway", sha256=SHA[::-1])
    for stage in STAGES:
        config: Any = plan.config(Step(stage))
        assert [ref.subject for ref in config.shards] == ["Pong", "Freeway"]
        assert config.shards[1] == listed.spec().ref
        assert config.trajectories == config.segments == () and "shards" not in config.spec().config
    other = Plan(recipe("mini", [*changes, "segment.stride=8"]))
    assert other.ref(Step("imported_shards", "Pong")) != plan.ref(Step("imported_shards", "Pong"))
    elsewhere = Plan(recipe("mini", [*changes, "pretrain.loop.shards=gs://else"]))
    assert elsewhere.ref(Step("pretrained")) == plan.ref(Step("pretrained"))
    mixed = Plan(recipe("mini", [*changes, "pretrain.loop.shuffle=64"]))
    assert mixed.ref(Step("pretrained")) != plan.ref(Step("pretrained"))


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("mini", ["source=shards"], "names no shards of Pong: run 'worldline import shards URL --game Pong' and set"),
        (
            "mini",
            ["source=shards", "shards.contents=Pong:abc"],
            "write GAME:SHA256 for each game, as 'worldline import",
        ),
        ("mini", [f"shards.contents=Pong:{SHA}"], "has shards, yet its source is collected: set source=shards too"),
        (
            "mini",
            ["source=shards", "shards.length=9"],
            "has no effect, the plan fills it in: set the recipe's 'segment'",
        ),
        (
            "jowa_40m_finetune",
            ["games=Pong", "source=shards", f"shards.contents=Pong:{SHA}"],
            "finetune chooses among whole episodes, and source=shards has none",
        ),
    ],
)
def test_recipes_that_cannot_stream_are_refused(tmp_path: Path, name: str, changes: list[str], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        check(tmp_path, "streamed", recipe(name, changes))
    assert words in str(caught.value)


def test_the_command_keeps_the_list_and_says_how_to_go_on(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    assert command(["import", "shards", str(copied), "--game", "freeway"]) == 0
    said = capsys.readouterr().out.split()
    changes = [word for word in said if re.match(r"(games|source|shards|segment)[.=]", word)]
    assert (
        Plan(recipe("mini", changes)).ref(Step("imported_shards", GAME))
        == made(tmp_path / "home/store", "imported_shards").ref
    )
    assert command(["lineage", "imported_shards/Freeway"]) == 0
    assert "shards 11, url /" in capsys.readouterr().out
    assert command(["import", "shards", str(copied), "--game", "Pong"]) == 2
    assert command(["import", "shards", str(tmp_path), "--game", "Pong"]) == 1
    printed = capsys.readouterr()
    assert "shards.json does not exist: give a folder of 'worldline export trajectories" in printed.err
    assert printed.err.count("\n") == 2 and "holds Freeway, not Pong: say --game Freeway" in printed.err
