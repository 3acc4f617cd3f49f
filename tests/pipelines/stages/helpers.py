"""The data stages of a toy bucket, one call each, over a real store."""

import shutil
from pathlib import Path

import pytest

from pipelines.sources import frame_extraction
from pipelines.stages import downsample, fetch, segment
from pipelines.stages.collect import CollectConfig
from pipelines.stages.downsample import DownsampleConfig
from pipelines.stages.fetch import FetchConfig
from pipelines.stages.segment import SegmentConfig
from pipelines.store.artefact import Artefact
from pipelines.store.ref import Ref
from pipelines.store.store import Store


def put_collected(store: Store, bucket: Path, game: str = "Freeway", seed: int = 0) -> Ref:
    """Enter a toy bucket into the store as collected replay."""
    spec = CollectConfig(game=game, seed=seed).spec()

    def build(draft) -> None:
        shutil.copytree(bucket, draft.folder, dirs_exist_ok=True)

    return store.produce(spec, build).artefact.ref


def make_replay(store: Store, collected: Ref, agent: int = 1, game: str = "Freeway") -> Artefact:
    return fetch.run(FetchConfig(game=game, agent=agent, collected=collected), store).artefact


def make_trajectories(store: Store, *replays: Artefact, transitions: int = 10_000, seed: int = 0) -> Artefact:
    game = replays[0].ref.subject.split("/")[0]
    config = DownsampleConfig(game, transitions, seed, replays=tuple(replay.ref for replay in replays))
    return downsample.run(config, store).artefact


def make_segments(store: Store, trajectories: Artefact, **options) -> Artefact:
    config = SegmentConfig(game=trajectories.ref.subject, trajectories=trajectories.ref, **options)
    return segment.run(config, store).artefact


def note_extracted(monkeypatch: pytest.MonkeyPatch, most: int | None = None) -> list[str]:
    """The names of files as their frames are extracted from now on; after `most` of them the user stops the run."""
    real, names = frame_extraction.extract_frames, list[str]()

    def noted(plan, *rest):
        if len(names) == most:
            raise KeyboardInterrupt
        names.append(plan.item.name)
        return real(plan, *rest)

    monkeypatch.setattr(frame_extraction, "extract_frames", noted)
    return names


def nothing_left(store: Store, stage: str) -> bool:
    """No artefact of this stage and no private folder."""
    private = store.root / ".partial"
    return not (store.root / stage).exists() and not (private.exists() and any(private.iterdir()))
