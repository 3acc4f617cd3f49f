"""Stage `replay`: read one agent's logs from a bucket, check them, and stitch them into an episode table.

Reads everything but the frames, of which only headers are read (and checksums, where the bucket publishes none).
Run: `worldline fetch Freeway --agent 1`.
"""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.atari.actions import minimal_actions
from pipelines.bucket.bucket import Bucket
from pipelines.bucket.mirror import Mirror
from pipelines.configs.data import FetchConfig
from pipelines.errors import WorldlineError
from pipelines.progress import track
from pipelines.replay.layout import KINDS
from pipelines.replay.listing import RemoteObject, digest, list_objects
from pipelines.replay.log_reader import crc32c_of_object, read_array, read_header
from pipelines.replay.record import group_by_checkpoint, local_url, write_record
from pipelines.replay.stitch import RingLog, Stitched, stitch
from pipelines.store.draft import Draft
from pipelines.store.report import Report
from pipelines.store.store import Store

FRAME = (84, 84)
REPAIR = "fetch that checkpoint again from its source, or remove all of its files"


@dataclass(frozen=True)
class FetchedLog:
    """One checkpoint: its ring and the rows that the writer declared invalid."""

    ring: RingLog
    invalid_range: NDArray[np.int64]


def run(config: FetchConfig, store: Store) -> Report:
    """Make the replay artefact of one game and agent, or find it.

    Raises WorldlineError for a damaged, missing or contradictory file, and for a bucket that changed since its listing.
    """
    return store.produce(config.spec(), lambda draft: _build(config, draft, store))


def _build(config: FetchConfig, draft: Draft, store: Store) -> None:
    collected = draft.parents[config.collected].folder if config.collected else None
    root = local_url(collected) if collected else config.url
    bucket = Bucket.of(root, store.profile, Mirror.of(root, store))
    objects = list_objects(bucket, config.game, config.agent)
    if collected:
        objects = [replace(item, version=None) for item in objects]  # file times say nothing about the content
    elif (found := digest(objects)) != config.listing:
        raise WorldlineError(
            f"{root} lists {config.game}/{config.agent} with digest {found[:16]}, the request says "
            f"'{config.listing[:16]}': the bucket changed or was never listed; list it again and fetch that"
        )
    logs = []
    title = f"Read replay {config.game}/{config.agent}"
    with track(title, total=len(objects), unit="files") as advance:
        checked: list[RemoteObject] = []
        for checkpoint, kinds in group_by_checkpoint(objects).items():
            group = {k: item if bucket.has_proof(item) else _with_crc32c(item, bucket) for k, item in kinds.items()}
            logs.append(_read_log(checkpoint, group, bucket))
            checked += group.values()
            advance(len(group))
    stack_size = _stack_size(logs, title)
    found_episodes = stitch([log.ring for log in logs], config.agent, stack_size)
    write_record(draft.path, checked, [log.ring for log in logs], found_episodes)
    _record(config, draft, checked, logs, found_episodes)
    if not collected:
        draft.roots += [
            {"url": item.url, "bytes": item.bytes, "crc32c": item.crc32c, "version": item.version} for item in checked
        ]


def _with_crc32c(item: RemoteObject, bucket: Bucket) -> RemoteObject:
    return replace(item, crc32c=crc32c_of_object(item, bucket))


def _read_log(checkpoint: int, kinds: dict[str, RemoteObject], bucket: Bucket) -> FetchedLog:
    """One checkpoint's small arrays, after its six files were found to agree."""
    arrays = {kind: read_array(item, bucket) for kind, item in kinds.items() if kind != "observation"}
    header = read_header(kinds["observation"], bucket)
    if header.dtype != np.uint8 or header.shape[1:] != FRAME:
        raise WorldlineError(
            f"{kinds['observation'].url} holds {header.dtype} of shape {header.shape}, frames are uint8 (N, 84, 84): "
            f"{REPAIR}"
        )
    shapes = {"observation": header.shape[:1]} | {kind: arrays[kind].shape for kind in KINDS[1:]}
    if len(set(shapes.values())) != 1:
        odd = min(shapes, key=lambda kind: Counter(shapes.values())[shapes[kind]])
        rows = ", ".join(f"{kind} {shape[0] if len(shape) == 1 else shape}" for kind, shape in shapes.items())
        raise WorldlineError(
            f"{kinds[odd].url} disagrees in length with its checkpoint's other files ({rows}): {REPAIR}"
        )
    numbers = {"action": "iu", "reward": "f", "terminal": "iub", "add_count": "iu", "invalid_range": "iu"}
    for kind, allowed in numbers.items():
        if arrays[kind].dtype.kind not in allowed:
            raise WorldlineError(f"{kinds[kind].url} holds {arrays[kind].dtype}, not what a {kind} is: {REPAIR}")
    if arrays["add_count"].size != 1 or arrays["invalid_range"].ndim != 1:
        raise WorldlineError(f"{kinds['add_count'].url} or its invalid_range has an unexpected shape: {REPAIR}")
    actions = arrays["action"]
    if len(actions) and not (actions.min() >= 0 and actions.max() < 256 and np.isfinite(arrays["reward"]).all()):
        raise WorldlineError(f"{kinds['action'].url} or its rewards hold impossible numbers: {REPAIR}")
    ring = RingLog(
        checkpoint,
        int(arrays["add_count"].reshape(())),
        actions.astype(np.uint8),
        arrays["reward"].astype(np.float32),
        np.where(np.isin(arrays["terminal"], (0, 1)), arrays["terminal"], 2).astype(np.uint8),  # 2 fails its check
    )
    return FetchedLog(ring, arrays["invalid_range"].astype(np.int64))


def _stack_size(logs: list[FetchedLog], title: str) -> int:
    """The writer's frame stack: invalid_range always names one row more."""
    sizes = {len(log.invalid_range) for log in logs}
    if len(sizes) != 1 or min(sizes) < 2:
        raise WorldlineError(
            f"{title}: invalid_range has lengths {sorted(sizes)}, all must be stack size + 1: {REPAIR}"
        )
    return sizes.pop() - 1


def _record(
    config: FetchConfig, draft: Draft, objects: list[RemoteObject], logs: list[FetchedLog], found: Stitched
) -> None:
    """Counts, metrics and checks of the manifest."""
    episodes, rings = found.episodes, [log.ring for log in logs]
    complete = episodes[episodes["complete"]]
    draft.counts |= {
        "files": len(objects),
        "rows": sum(ring.capacity for ring in rings),
        "episodes": len(episodes),
        "complete_episodes": len(complete),
        "transitions": int(episodes["length"].sum()),
    }
    draft.metrics["source_bytes"] = sum(item.bytes for item in objects)
    draft.metrics["mean_clipped_return"] = _means(complete)

    odd_rewards = sum(int((~np.isin(ring.rewards, (-1, 0, 1))).sum()) for ring in rings)
    draft.check("rewards_clipped", not odd_rewards, f"{odd_rewards} rewards outside -1, 0, 1", blocking=True)
    size = len(minimal_actions(config.game))
    odd_actions = sum(int((ring.actions >= size).sum()) for ring in rings)
    detail = f"{odd_actions} actions outside {config.game}'s {size}"
    draft.check("actions_minimal", not odd_actions, detail, blocking=True)
    odd_ends = sum(int((ring.terminals > 1).sum()) for ring in rings)
    draft.check("terminals_binary", not odd_ends, f"{odd_ends} terminals outside 0, 1", blocking=True)
    detail = f"{found.unpadded} episodes without their blank rows"
    draft.check("blank_rows", not found.unpadded, detail, blocking=True)
    draft.check("any_complete_episode", len(complete) > 0, f"{len(complete)} complete episodes", blocking=True)
    # The original writer loses a lap now and then, so a gap is a finding; nothing was joined across it.
    draft.check("no_gap", not found.gaps, f"{found.gaps} laps without a log")
    odd_ranges = [log.ring.checkpoint for log in logs if not _range_fits(log)]
    draft.check("invalid_range", not odd_ranges, f"logs whose invalid_range contradicts add_count: {odd_ranges}")


def _means(complete: pd.DataFrame) -> dict[str, float]:
    """Mean clipped return of the complete episodes that end in each checkpoint."""
    means = complete.groupby("checkpoint")["return"].mean()
    return {str(checkpoint): round(float(value), 4) for checkpoint, value in means.items()}


def _range_fits(log: FetchedLog) -> bool:
    capacity, cursor = log.ring.capacity, log.ring.add_count % log.ring.capacity
    expected = (cursor - 1 + np.arange(len(log.invalid_range))) % capacity
    return bool(np.array_equal(log.invalid_range, expected))
