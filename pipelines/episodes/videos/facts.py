"""What a written set holds, in numbers and by name: an entry a video, shares of tasks or classes, and what is odd.

Letters: V videos.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.episodes.videos.video_set import FROZEN, Seen, VideoSet

GROUPED = ("task", "class")  # of an entry, by what shares are told; the first that all have
MOST_GROUPS = 200


def entries_of(videos: VideoSet, kept: Sequence[int], seen: Sequence[Seen], source: str) -> list[dict[str, Any]]:
    """(V) what is known of each kept video: name, source, frames, sha256 of what it was read from, motion, and more."""
    return [
        {
            "name": videos.names[video],
            "source": source,
            "frames": videos.lengths[video],
            "sha256": each.digest,
            "motion": round(each.motion, 4),
            **videos.about(video),
        }
        for video, each in zip(kept, seen, strict=True)
    ]


def shares(entries: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """By task or class: videos, frames, share of all frames, mean length, motion, and the share that succeeded.

    Nothing where the entries have neither, or too many of them.
    """
    by = next((name for name in GROUPED if all(name in entry for entry in entries)), "")
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries if by else ():
        groups.setdefault(str(entry[by]), []).append(entry)
    if len(groups) > MOST_GROUPS:
        return {}
    total = sum(entry["frames"] for entry in entries)
    return {name: _numbers(groups[name], total) for name in sorted(groups)}


def _numbers(entries: Sequence[Mapping[str, Any]], total: int) -> dict[str, float]:
    count, frames = len(entries), sum(entry["frames"] for entry in entries)
    found = {
        "videos": count,
        "frames": frames,
        "share": round(frames / total, 4),
        "mean_length": round(frames / count, 2),
        "motion": round(sum(entry["motion"] for entry in entries) / count, 4),
    }
    if all("success" in entry for entry in entries):
        found["success"] = round(sum(entry["success"] for entry in entries) / count, 4)
    return found


def odd(names: Sequence[str], seen: Sequence[Seen]) -> dict[str, tuple[list[str], str]]:
    """By check, the names of the videos that fail it, and what these do."""
    first: dict[str, str] = {}
    for name, each in zip(names, seen, strict=True):
        first.setdefault(each.sha256, name)
    blank = [name for name, each in zip(names, seen, strict=True) if each.blank]
    still = [name for name, each in zip(names, seen, strict=True) if each.motion < FROZEN]
    firsts = [first[each.sha256] for each in seen]
    twice = [f"{name} as {other}" for name, other in zip(names, firsts, strict=True) if name != other]
    return {
        "frames_show": (blank, "have frames of one colour"),
        "frames_move": (still, "show no motion"),
        "no_duplicates": (twice, "are there twice"),
    }
