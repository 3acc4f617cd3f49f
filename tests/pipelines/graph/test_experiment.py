"""Experiments: frozen once, found by name or key, and never silently another config."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.limits import MOST
from pipelines.errors import UsageError, WorldlineError
from pipelines.graph import experiment
from pipelines.graph.config_io import to_plain
from pipelines.graph.experiment import Experiment, check, find, forget, register, registered
from pipelines.recipes.registry import RECIPES, recipe
from tests.fakes import Synced


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


@pytest.mark.parametrize(
    "name", ["", "../out", "a/b", ".hidden", "a b", "x" * 172, "-x", "a...b", "a|b", "a,b", "a\nb"]
)
def test_a_name_that_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        register(tmp_path / "experiments", name, recipe("mini"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ("seed=-1", "seed -1 is impossible: it must be at least 0"),
        ("seed=12345678901234567890", "seed 12345678901234567890 is impossible: it must be at most"),
        ("seed=1764172415123456789", "seed 1764172415123456789 is impossible"),
        ("collect.seed=-1", "collect.seed -1"),
        ("segment.length=1", "segment.length is 1: a world is learned from one step to the next"),
        ("segment.length=1 pretrain.model.max_steps=1", "segment.length is 1: a world is learned"),
        ("segment.stride=9", "segment.stride is 9 and segment.length 8: steps between"),
        ("pretrain.tokenizer.vocab_size=128", "vocab_size is 128 but model.vocab_size is 64: they must be equal"),
        ("pretrain.tokenizer.vocab_size=70000 pretrain.model.vocab_size=70000", "vocab_size 70000 is impossible"),
        ("pretrain.lpips_file=nowhere.pt", "LPIPS weights nowhere.pt cannot be read"),
        (f"pretrain.lpips_file={__file__}", "which the config must name: set pretrain.lpips_sha256="),
        (f"pretrain.lpips_file={__file__} pretrain.lpips_sha256={'0' * 64}", f"not {'0' * 64}: set pretrain"),
        (f"pretrain.lpips_sha256={'0' * 64}", "say where they lie"),
        ("pretrain.tokenizer.frame_channels=3", r"see frames of \(84, 84, 3\) and replay has \(84, 84, 1\)"),
        ("pretrain.model.num_games=10", "set pretrain.model.num_games=60"),
        ("pretrain.model.num_actions=6", "set pretrain.model.num_actions=18"),
        ("pretrain.random_shift=84", "random_shift 84 moves all"),
        ("evaluate.beam_horizon=7", "A context of 2 steps and a beam horizon of 7 is more than the 8 steps"),
        ("evaluate.protocol=iris", "'iris' shows frames of"),
        ("evaluate.step=3", "keeps no checkpoint of that step"),
        ("evaluate.step=8 train.loop.checkpoint_every=2", "keeps no checkpoint of that step"),
        ("evaluate.rom_dir=/nowhere", "ROM folder /nowhere cannot be read"),
        ("tune.contexts=1,9 evaluate.beam_episodes=0", "A context of 9 steps is more than the 8 steps"),
        ("agents=1,6 collect.agents=6", "DQN-Replay has agents 1 to 5, and so have experiments"),
        ("train.phases.world_action.lr=1e30", r"lr 1e\+30 is impossible: it must be above 0 and at most 1000"),
        ("collect.capacity=9223372036854775808", "collect.capacity 9223372036854775808 is impossible"),
    ],
)
def test_what_a_stage_would_refuse_is_refused_before_the_name_is_taken(
    tmp_path: Path, changes: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        register(tmp_path, "mine", recipe("mini", changes.split()))
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_numbers_far_off_are_taken_or_refused_in_one_line(tmp_path: Path) -> None:
    numbers = {path: value for path, value in _leaves(to_plain(recipe("mini"))) if type(value) in (int, float)}
    assert len(numbers) > 90
    for path, value in numbers.items():
        for text in ("0", "-1", str(10**9), str(2**31), str(2**63), *(["1e-30"] if type(value) is float else [])):
            try:
                check(tmp_path, "mine", recipe("mini", [f"{path}={text}"]))
            except UsageError as error:
                assert "\n" not in str(error)
            else:
                assert type(value) is float or int(text) <= MOST, path
                assert text != "-1" or path.endswith(("last_checkpoint", "value_min", "value_max")), path


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Fields as overrides name them: members of a tuple by their names."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, f"{path}.{name}" if path else name)
    elif isinstance(value, (list, tuple)) and value and isinstance(value[0], dict):
        for item in value:
            yield from _leaves(item, f"{path}.{item['name']}")
    else:
        yield path, value


OF_A_FILE = {name for name in RECIPES if (learn := recipe(name).learn) and learn.networks.outside}  # GPT-2, of yours


@pytest.mark.parametrize("name", sorted(RECIPES.keys() - OF_A_FILE))
def test_every_recipe_can_be_frozen_without_its_bucket(tmp_path: Path, name: str) -> None:
    assert register(tmp_path, "mine", recipe(name)) == find(tmp_path, "mine")


def test_what_is_imported_may_have_other_frames_than_logs(tmp_path: Path) -> None:
    changes = [f"import.contents=Pong:{'0' * 64}", "source=imported", "pretrain.tokenizer.frame_channels=3"]
    with pytest.raises(UsageError, match=r"'sticky' shows frames of \(84, 84, 1\) and the agent sees \(84, 84, 3\)"):
        check(tmp_path, "mine", recipe("mini", changes))


def test_a_name_that_is_anothers_key_is_refused(tmp_path: Path) -> None:
    made = register(tmp_path, "mine", recipe("mini"))
    with pytest.raises(UsageError, match=f"'{made.key}' is the key of another one"):
        register(tmp_path, made.key, recipe("mini"))


def test_an_unknown_experiment_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Unknown experiment 'one': none is registered in .*worldline experiment new"):
        find(tmp_path, "one")
    register(tmp_path, "boxing-wide", recipe("mini"))
    with pytest.raises(UsageError, match=r"Unknown experiment 'boxing-wild': did you mean 'boxing-wide'\?"):
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
def test_a_damaged_file_is_told_in_one_line_stops_no_other_and_its_repair_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    said: list[str] = []
    monkeypatch.setattr(experiment, "say", said.append)
    path = tmp_path / "one-00000000.json"
    path.write_bytes(text.encode("latin-1"))
    other = register(tmp_path, "other", recipe("mini"))
    assert registered(tmp_path) == [other] and find(tmp_path, "other") == other
    assert {line.split(" (")[0] for line in said} == {f"{path} is no experiment of this version"}
    assert not any("\n" in line for line in said)
    for name in ("one", "one-00000000"):
        with pytest.raises(WorldlineError, match=re.escape(f"{path} is no experiment of this version")):
            find(tmp_path, name)
    assert "'worldline experiment remove one-00000000' lets it go" in said[-1]
    assert forget(tmp_path, "one-00000000") == "one-00000000"
    assert register(tmp_path, "one", recipe("mini")) == find(tmp_path, "one")


def test_a_file_of_another_version_is_found_by_the_name_inside_it(tmp_path: Path) -> None:
    held = {"name": "old", "recipe": {"name": "mini", "games": ["Pong"], "field_of_another_version": 1}}
    (tmp_path / "old_experiment.json").write_text(json.dumps(held))
    with pytest.raises(WorldlineError, match="Unknown field 'field_of_another_version'"):
        find(tmp_path, "old")
    assert find(tmp_path, register(tmp_path, "old", recipe("mini")).key).name == "old"
    assert forget(tmp_path, "old_experiment") == "old_experiment"


def test_a_torn_file_is_frozen_again_under_its_own_name(tmp_path: Path) -> None:
    made = register(tmp_path, "one", recipe("mini"))
    path = tmp_path / f"{made.key}.json"
    path.write_bytes(path.read_bytes()[:99])
    assert register(tmp_path, "one", recipe("mini")) == made == find(tmp_path, "one")


def test_what_is_removed_may_be_named_by_name_or_key_and_never_by_two(tmp_path: Path) -> None:
    made = register(tmp_path, "one", recipe("mini"))
    (tmp_path / "one-00000000.json").write_text("{}")
    with pytest.raises(UsageError, match=f"'one' are 2 experiments: give the whole key, one of .*{made.key}"):
        forget(tmp_path, "one")
    assert forget(tmp_path, "one-00000000") == "one-00000000"
    assert forget(tmp_path, "one") == made.key and list(tmp_path.iterdir()) == []


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
    with pytest.raises(WorldlineError, match="demo-9c6b7c58 is of an earlier version"):
        find(tmp_path, "demo-9c6b7c58")
    assert forget(tmp_path, "demo-9c6b7c58") == "demo-9c6b7c58"
    said.clear()
    assert registered(tmp_path) == [made] and not said
    with pytest.raises(UsageError, match="Unknown experiment 'demo-9c6b7c58': choose one of demo"):
        forget(tmp_path, "demo-9c6b7c58")
    with pytest.raises(UsageError):
        forget(tmp_path, "../demo")


def test_a_damaged_file_of_an_earlier_version_is_still_damaged(tmp_path: Path) -> None:
    path = old(tmp_path)
    path.rename(tmp_path / "other-00000000.json")
    with pytest.raises(WorldlineError, match="is no experiment of this version"):
        find(tmp_path, "other")


def test_a_folder_that_may_not_be_read_is_not_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    assert registered(tmp_path / "absent") == []
    monkeypatch.setattr(Path, "iterdir", forbidden)
    monkeypatch.setattr("os.scandir", forbidden)
    with pytest.raises(PermissionError):
        registered(tmp_path)


def test_a_registered_experiment_survives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = Synced(monkeypatch)
    found = register(tmp_path, "x", recipe("mini"))
    assert tmp_path / f"{found.key}.json" in synced
