"""Experiments: frozen once, found by name or key, and never silently another config."""

import json
import re
from pathlib import Path

import pytest

from pipelines.errors import UsageError, WorldlineError
from pipelines.graph import experiment
from pipelines.graph.config_io import to_plain
from pipelines.graph.experiment import Experiment, OldExperimentError, find, forget, register, registered
from pipelines.recipes.registry import recipe


def test_registering_twice_changes_nothing(tmp_path: Path) -> None:
    first = register(tmp_path, "one", recipe("mini"))
    (path,) = tmp_path.iterdir()
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert register(tmp_path, "one", recipe("mini")) == first
    assert [path] == list(tmp_path.iterdir())
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_how_the_work_is_done_follows_the_newest_registration_and_is_part_of_no_key(tmp_path: Path) -> None:
    first = register(tmp_path, "one", recipe("mini"))
    again = register(tmp_path, "one", recipe("mini", ["train.loop.workers=2", "train.loop.device=cpu"]))
    (found,) = registered(tmp_path)
    assert found == again and found.key == first.key
    assert (found.recipe.train.loop.workers, found.recipe.train.loop.device) == (2, "cpu")


def test_what_was_frozen_is_read_back(tmp_path: Path) -> None:
    made = register(tmp_path, "wide", recipe("demo", ["pretrain.model.width=192", "seed=3"]))
    (found,) = registered(tmp_path)
    assert found == made
    assert find(tmp_path, "wide") == find(tmp_path, made.key) == made
    assert re.fullmatch(r"wide-[0-9a-f]{8}", made.key)


def test_the_key_follows_name_and_config_alone() -> None:
    key = Experiment("a", recipe("mini")).key
    assert Experiment("a", recipe("mini")).key == key
    assert Experiment("a", recipe("mini", ["evaluate.epsilon=0.5"])).key != key
    assert Experiment("b", recipe("mini")).key[1:] == key[1:]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("seed=1", "seed is 0, not 1"),
        ("pretrain.phases.world.steps=9", "pretrain.phases.1.steps is 4, not 9"),
        ("games=Pong,Qbert", "games.1 is None, not Qbert"),
        ("pretrain.tokenizer.cosine=true", "pretrain.networks.tokenizer.cosine is False, not True"),
    ],
)
def test_a_name_taken_by_another_config_names_the_first_difference(tmp_path: Path, change: str, words: str) -> None:
    taken = register(tmp_path, "mine", recipe("mini"))
    with pytest.raises(UsageError, match=f"'mine' is taken by {taken.key}, whose {words}: choose another name"):
        register(tmp_path, "mine", recipe("mini", [change]))
    assert registered(tmp_path) == [taken]


@pytest.mark.parametrize("name", ["", "../out", "a/b", ".hidden", "a b", "x" * 200])
def test_a_name_that_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        register(tmp_path / "experiments", name, recipe("mini"))
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_experiment_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Unknown experiment 'one': none is registered in .*worldline experiment new"):
        find(tmp_path, "one")
    made = register(tmp_path, "boxing-wide", recipe("mini"))
    with pytest.raises(UsageError, match=rf"Unknown experiment 'boxing-wild': did you mean '{made.key}'\?"):
        find(tmp_path, "boxing-wild")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"name": "one"}',
        '{"name": "one", "recipe": {"name": "mini"}}',
        '{"name": "one", "recipe": {"name": "mini", "games": ["Nope"]}}',
        '{"name": "one", "recipe": []}',
        "\x00\xff",
    ],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "one-00000000.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(WorldlineError, match=re.escape(f"{path} is no experiment of this version")) as caught:
        registered(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_field_of_another_version_is_named(tmp_path: Path) -> None:
    made = register(tmp_path, "one", recipe("mini"))
    path = tmp_path / f"{made.key}.json"
    data = json.loads(path.read_text())
    data["recipe"]["collect"]["colour"] = True
    path.write_text(json.dumps(data))
    with pytest.raises(WorldlineError, match=r"Unknown field 'collect\.colour'"):
        find(tmp_path, "one")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WorldlineError, match=r"Experiment 'one' cannot be written to .* \(Not a directory\): set"):
        register(tmp_path / "file" / "experiments", "one", recipe("mini"))


def old(tmp_path: Path) -> Path:
    """As the version before format 2 froze it, with two networks in place of one agent."""
    data = {"name": "demo", "recipe": to_plain(recipe("mini"))}
    networks = data["recipe"]["pretrain"].pop("networks")
    data["recipe"]["pretrain"] |= {"tokenizer": networks["tokenizer"], "model": networks["model"]}
    path = tmp_path / "demo-9c6b7c58.json"
    path.write_text(json.dumps(data))
    return path


def test_an_experiment_of_an_earlier_version_is_told_and_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(experiment, "say", said.append)
    old(tmp_path)
    made = register(tmp_path, "demo", recipe("mini"))
    assert registered(tmp_path) == [made] and find(tmp_path, "demo") == made
    assert all("demo-9c6b7c58 is of an earlier version" in line and "made anew by" in line for line in said) and said
    forget(tmp_path, "demo-9c6b7c58")
    said.clear()
    assert registered(tmp_path) == [made] and not said
    with pytest.raises(UsageError, match=f"Unknown experiment 'demo-9c6b7c58': did you mean '{made.key}'"):
        forget(tmp_path, "demo-9c6b7c58")
    with pytest.raises(UsageError):
        forget(tmp_path, "../demo")


def test_a_damaged_file_of_an_earlier_version_is_still_damaged(tmp_path: Path) -> None:
    path = old(tmp_path)
    path.rename(tmp_path / "other-00000000.json")
    with pytest.raises(WorldlineError, match="is no experiment of this version") as caught:
        registered(tmp_path)
    assert not isinstance(caught.value, OldExperimentError)
