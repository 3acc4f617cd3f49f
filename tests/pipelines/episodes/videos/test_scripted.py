"""Takes of Meta-world's experts: what is drawn, that a take is the same wherever it is played, and how one is kept."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.episodes.trajectories import pack
from pipelines.episodes.videos.scripted import ENDING, Play, PlayedVideos, Studio, Take, keep, kept, takes_of
from pipelines.errors import UsageError, WorldlineError
from tests.pipelines.episodes.videos.made_videos import wandering

PLAY = Play("metaworld_fast", after_success=3, limit=70, least=4, made_with="these")
TAKE = Take("reach", "corner", 0, seed=7, noise=0.1)


def test_what_is_drawn_for_a_take_depends_on_nothing_beside_it() -> None:
    few = takes_of(["reach"], ["corner"], 2, (0.1, 0.5), 0)
    many = takes_of(["push", "reach"], ["corner3", "corner"], 3, (0.1, 0.5), 0)
    assert {*few} <= {*many} and len({take.name for take in many}) == len(many) == 12
    assert len({take.seed for take in many}) == 12 and all(0.1 <= take.noise <= 0.5 for take in many)
    assert takes_of(["reach"], ["corner"], 2, (0.1, 0.5), 1)[0].seed != few[0].seed


def test_an_expert_ends_a_few_frames_after_its_success_and_looks_the_same_again(metaworld_here: str) -> None:
    with Studio(PLAY) as studio:
        frames, facts = studio.play(TAKE)
        other, _ = studio.play(replace(TAKE, seed=8))
        again, told = studio.play(TAKE)
    assert np.array_equal(frames, again) and told == facts and not np.array_equal(frames[0], other[0])
    assert frames.shape[1:] == (64, 64, 3) and frames.dtype == np.uint8
    assert facts["success"] and len(frames) == facts["succeeded_at"] + 3 <= 70 and facts["return"] > 0
    with Studio(replace(PLAY, limit=5)) as studio:
        cut, told = studio.play(TAKE)
        assert np.array_equal(cut, frames[:5]) and told["succeeded_at"] is None and not told["success"]
        assert studio.begins_so(TAKE, frames[0])
        for turned in (frames[0, ::-1], frames[0, :, ::-1], frames[0, ..., ::-1]):
            assert not studio.begins_so(TAKE, turned)
    with Studio(replace(PLAY, limit=5)) as fresh:
        assert np.array_equal(fresh.play(TAKE)[0], frames[:5])


def test_noise_changes_what_is_played_and_not_where_it_begins(metaworld_here: str) -> None:
    with Studio(replace(PLAY, limit=6)) as studio:
        calm, wild = (studio.play(replace(TAKE, noise=noise))[0] for noise in (0.0, 1.0))
    assert np.array_equal(calm[0], wild[0]) and not np.array_equal(calm[-1], wild[-1])


def finished(folder: Path, take: Take = TAKE, length: int = 9) -> Path:
    facts = {**vars(take), "return": 1.5, "success": True, "succeeded_at": 4}
    keep(folder, PLAY, wandering(length), facts)
    return folder / f"{take.name}{ENDING}"


def test_a_kept_take_reads_as_it_was_played(tmp_path: Path) -> None:
    finished(tmp_path)
    videos = PlayedVideos(tmp_path, PLAY, [TAKE])
    digest, frames = videos.load(0)
    assert (videos.names, videos.lengths) == (("reach-corner-0000",), (9,)) and digest == videos.digest(0)
    assert np.array_equal(frames, wandering(9))
    assert videos.about(0) == {
        "task": "reach", "camera": "corner", "seed": 7, "noise": 0.1, "return": 1.5, "success": True, "succeeded_at": 4,
    }  # fmt: skip


def test_a_take_that_is_damaged_or_of_others_is_no_finished_one(tmp_path: Path) -> None:
    path = finished(tmp_path)
    raw = path.read_bytes()
    assert kept(tmp_path, PLAY, TAKE) is not None
    assert kept(tmp_path, replace(PLAY, made_with="others"), TAKE) is None, "of another library"
    assert kept(tmp_path, PLAY, replace(TAKE, seed=8)) is None and kept(tmp_path, PLAY, replace(TAKE, task="x")) is None
    head, _, packed = raw.partition(b"\n")
    lies = [raw[:-1], raw[:200], b"", b"[]\n", b"\xff\n", packed, head + b"\n" + pack(wandering(9, 1))]
    for wrong in (*lies, json.dumps(json.loads(head) | {"seed": "7"}).encode() + b"\n" + packed):
        path.write_bytes(wrong)
        assert kept(tmp_path, PLAY, TAKE) is None
    with pytest.raises(WorldlineError, match="reach-corner-0000 is damaged or gone from"):
        PlayedVideos(tmp_path, PLAY, [TAKE])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"protocol": "sticky"}, "is 'sticky', whose frames are .* choose one of Meta-world's"),
        ({"protocol": "no"}, "Unknown protocol 'no'"),
        ({"limit": 500}, r"videos\.limit is 500, an episode of 'metaworld_fast' has 500 steps: set it to 499"),
    ],
)
def test_rules_that_do_not_fit_are_refused(changes: dict[str, object], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        replace(PLAY, **changes).rules("corner")  # type: ignore[arg-type]
