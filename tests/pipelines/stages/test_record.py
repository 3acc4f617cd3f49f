"""Recordings: equal configs make equal bytes, a file of actions decides, and what a screen showed is kept alike."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.episodes.trajectories import Trajectories
from pipelines.errors import UsageError
from pipelines.play.mode import MODES, open_mode
from pipelines.play.taken import Taken
from pipelines.stages.record import (
    RecordConfig,
    as_read,
    keep,
    opened,
    places_in,
    run,
    source_of,
    with_actions,
    words_of,
)
from tests.pipelines.conftest import TinyRun


@pytest.fixture
def config(tiny: TinyRun) -> RecordConfig:
    """Of the tiny run, with all of its episodes."""
    made = tiny.made
    return RecordConfig(
        game="Breakout",
        agent=made["world_action_model"].ref,
        trajectories=made["trajectories"].ref,
        scores=made["scores"].ref,
        protocol="sticky",
        precision="float32",
        mode="dream",
        steps=4,
        context=2,
        seed=7,
    )


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_kept_and_made_again_in_equal_bytes(tiny_copy: TinyRun, config: RecordConfig, mode: str) -> None:
    config = as_read(replace(config, mode=mode, sample="yes", reconstruction=True))
    first = run(config, tiny_copy.store)
    names = set(first.artefact.names())
    assert {"recording.npz", "facts.jsonl"} < names and first.artefact.manifest.metrics["mode"] == mode
    assert ("trajectories.h5" in names) == (mode in ("agent", "game"))
    assert first.artefact.manifest.counts["steps"] == 4
    tiny_copy.store.remove(first.artefact)
    again = run(config, tiny_copy.store)
    for name in ("recording.npz", "facts.jsonl"):
        hashes = [{file.path: file.sha256 for file in each.artefact.manifest.files}[name] for each in (first, again)]
        assert hashes[0] == hashes[1], name
    assert run(config, tiny_copy.store).skipped


def test_its_lineage_is_what_it_read(tiny: TinyRun, config: RecordConfig) -> None:
    agent, trajectories, scores = config.agent, config.trajectories, config.scores
    parents = {
        (-1, "recorded", "dream"): [agent],
        (0, "recorded", "dream"): [agent, trajectories],
        (0, "evaluated", "versus"): [agent, scores],
        (-1, "recorded", "episodes"): [agent, trajectories],
    }
    for (episode, of, mode), expected in parents.items():
        asked = as_read(replace(config, episode=episode, of=of, mode=mode))
        assert list(asked.spec().parents) == expected, (episode, of, mode)


def test_the_actions_of_a_file_are_played_and_decide_about_the_key(
    tiny_copy: TinyRun, config: RecordConfig, tmp_path: Path
) -> None:
    file = tmp_path / "keys.txt"
    file.write_text("right 1\nNOOP,LEFT")
    config = replace(config, mode="game")
    asked = with_actions(as_read(config), file)
    report = run(replace(asked, steps=6), tiny_copy.store)
    with np.load(report.artefact.path("recording.npz")) as data:
        assert data["actions"].tolist() == [-1, 2, 1, 0, 3, 0, 0], "after the file nothing is pressed"
    assert report.artefact.path("actions.txt").read_bytes() == file.read_bytes()
    assert asked.spec().key != as_read(config).spec().key
    elsewhere = tmp_path / "elsewhere.txt"
    elsewhere.write_bytes(file.read_bytes())
    assert with_actions(as_read(config), elsewhere).spec().key == asked.spec().key
    file.write_text("NOOP")
    with pytest.raises(UsageError, match="is not the file that was named"):
        run(asked, tiny_copy.store)


def test_what_a_screen_showed_is_the_artefact_that_a_run_makes(
    tiny_copy: TinyRun, config: RecordConfig, tmp_path: Path
) -> None:
    """A recording that began in the middle of a dream: played again from its beginning, it holds the same pictures."""
    store = tiny_copy.store
    mode = open_mode("dream", source_of(config, opened(config, store)))
    mode.reset(config.seed)
    pressed = [2, 3, 0, 1, 2]
    mode.step(2)
    taken = Taken("Breakout", mode.actions, mode.step(3))
    for place in pressed[2:]:
        taken.add(mode.step(place))
    live = keep(config, taken, pressed, store)
    assert live.artefact.manifest.config["skip"] == 2 and live.artefact.manifest.counts["steps"] == 3
    bytes_live = live.artefact.path("recording.npz").read_bytes()
    digest = hashlib.sha256(words_of(pressed, "Breakout")).hexdigest()
    file = live.artefact.path("actions.txt")
    same = replace(as_read(config), steps=3, skip=2, actions_sha256=digest, actions_file=str(file.absolute()))
    assert same.spec().ref == live.artefact.ref
    copied = tmp_path / "actions.txt"
    copied.write_bytes(file.read_bytes())
    store.remove(live.artefact)
    headless = run(replace(same, actions_file=str(copied)), store)
    assert headless.artefact.path("recording.npz").read_bytes() == bytes_live
    with pytest.raises(ValueError, match="give all since the beginning"):
        keep(config, taken, pressed[:2], store)


def test_played_episodes_can_be_read_as_trajectories(tiny_copy: TinyRun, config: RecordConfig) -> None:
    report = run(as_read(replace(config, mode="agent", steps=20)), tiny_copy.store)
    reader = Trajectories(report.artefact.path("trajectories.h5"))
    assert len(reader) == 20 and reader.game == "Breakout"
    assert len(report.artefact.manifest.metrics["frames_sha256"]) == 64


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"NOOP DUCK", "has 'DUCK' as action 1, which is none of Pong's: choose among NOOP, FIRE"),
        (b"0 6", "has '6' as action 1, which is none of Pong's"),
        (b"-1", "has '-1' as action 0"),
        (b"\xff\xfe", "is no text"),
        (b" \n", "names no action"),
        ("\u0663".encode(), "as action 0, which is none of"),
    ],
)
def test_an_action_file_that_says_something_else_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        places_in("keys.txt", data, "Pong")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("mode", "dreem", "did you mean 'dream'"),
        ("of", "imagined", "Unknown kind of episodes 'imagined'"),
        ("steps", 9_001, "9,001 steps is too long"),
        ("steps", 0, "record.steps"),
        ("planner", "best", "Unknown planner 'best'"),
    ],
)
def test_configs_that_nothing_can_play_are_refused(
    config: RecordConfig, field: str, value: object, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        replace(config, **{field: value})  # type: ignore[arg-type]
