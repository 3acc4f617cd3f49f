"""The card of an exported checkpoint: front matter that hubs read, and a page for people.

It says what manifests say: scores with intervals, protocol and ROM, the data, the lineage, and how to verify all of it.
The same artefacts give the same text.
"""

from collections.abc import Sequence
from typing import Any

import yaml

from pipelines.leaderboard.agent_scores import Entry, in_order, samples
from pipelines.leaderboard.provenance import data
from pipelines.leaderboard.score_row import ScoreRow, score_rows
from pipelines.store.artefact import Artefact
from pipelines.store.lineage import facts, root_lines

NOT_KNOWN = "unknown"


def model_card(
    experiment: str, checkpoint: Artefact, lineage: Sequence[Artefact], entries: Sequence[Entry], license: str
) -> str:
    """The text of README.md. `entries` are the checkpoint's scores, none where it has not played."""
    rows = score_rows(samples(entries))
    front = yaml.safe_dump(_front(experiment, rows, license), sort_keys=False, allow_unicode=True, width=120)
    parts = [
        f"---\n{front}---\n",
        f"# {experiment}\n",
        f"A checkpoint of Worldline: {facts(checkpoint.manifest)}. Address `{checkpoint.ref}`, sha256 of its manifest "
        f"`{checkpoint.digest}`.\n",
        _scores(rows),
        _data(entries),
        _use(experiment, rows),
        _lineage(lineage),
    ]
    return "\n".join(parts)


def _front(experiment: str, rows: Sequence[ScoreRow], license: str) -> dict[str, Any]:
    front: dict[str, Any] = {
        "license": license,
        "library_name": "worldline",
        "pipeline_tag": "reinforcement-learning",
        "tags": ["reinforcement-learning", "atari", "world-model", "worldline"],
    }
    results = []
    for row in rows:
        if row.mean is not None:
            bounds = "" if row.low is None else f", 95% interval {row.low:.4g} to {row.high:.4g}"
            reward = {"type": "mean_reward", "name": f"mean return{bounds}", "value": row.mean, "verified": False}
            task = {"type": "reinforcement-learning", "name": f"{row.planner} play, protocol {row.protocol}"}
            dataset = {"type": f"ALE/{row.game}-v5", "name": row.game}
            results.append({"task": task, "dataset": dataset, "metrics": [reward]})
    return front | ({"model-index": [{"name": experiment, "results": results}]} if results else {})


def _scores(rows: Sequence[ScoreRow]) -> str:
    if not rows:
        return "## Scores\n\nIt has not been scored: nothing is claimed of how it plays.\n"
    head = (
        "game",
        "planner",
        "mean return [95%]",
        "median",
        "human-normalised",
        "random",
        "episodes",
        "runs",
        "remarks",
    )
    lines = [_line(head), _line(["---"] * len(head))]
    for row in rows:
        remarks = "; ".join(part for part in (row.limits, row.apart, row.drift) if part)
        planner = f"{row.planner} ({row.settings})" if row.settings else row.planner
        numbers = [_interval(row), _number(row.median), _share(row), _number(row.random_mean)]
        lines.append(_line([row.game, planner, *numbers, row.episodes, row.seeds or NOT_KNOWN, remarks]))
    games = {(row.game, row.protocol, row.emulator, row.rom_md5, row.replays_rom) for row in rows}
    for game, protocol, emulator, md5, replays in sorted(games, key=str):
        of_replay = "" if replays is None else f", {'' if replays else 'not '}the one of DQN-Replay"
        lines.append(
            f"\n{game}: protocol `{protocol}`, {emulator or NOT_KNOWN}, ROM md5 `{md5 or NOT_KNOWN}`{of_replay}."
        )
    lines.append(
        "\nReturns are raw points an episode. The interval is of the mean over training runs and episodes; without one "
        "there were too few. Every episode lies in `lineage/scores/`."
    )
    return "## Scores\n\n" + "\n".join(lines) + "\n"


def _data(entries: Sequence[Entry]) -> str:
    lines = []
    for found in data(entries):
        origin = ", ".join(f"{name} {value}" for name, value in found.origin.items()) or NOT_KNOWN
        amount = f"{found.episodes or 0:,} episodes, {found.transitions or 0:,} transitions"
        lines.append(f"- {found.game}: {amount}, `{found.address}`; from {origin}")
    return "## Data\n\n" + ("\n".join(lines) if lines else "See the lineage below.") + "\n"


def _use(experiment: str, rows: Sequence[ScoreRow]) -> str:
    game = rows[0].game if rows else "GAME"
    return f"""## Use and verify

```sh
sha256sum -c SHA256SUMS                         # every file, without Worldline
worldline import hub DIR --name {experiment}
worldline evaluate {experiment} --games {game}
worldline lineage imported/{experiment} --verify
```

`worldline import hub` hashes every file against the manifest that it comes from, and every manifest against those that
name it. The weights are safetensors: nothing is run when they are read.
"""


def _lineage(lineage: Sequence[Artefact]) -> str:
    lines = [_line(("artefact", "what it holds", "made by code", "sha256 of its manifest")), _line(["---"] * 4)]
    roots = []
    for each in in_order(lineage):
        made_by = (each.manifest.git_commit or NOT_KNOWN)[:13]
        lines.append(_line([f"`{each.ref}`", facts(each.manifest), made_by, f"`{each.digest}`"]))
        roots += [f"- `{each.ref.stage}/{each.ref.subject}`: {line}" for line in root_lines(each.manifest)]
    text = "## Lineage\n\n" + "\n".join(lines) + "\n"
    return text + ("\nIt begins with:\n\n" + "\n".join(dict.fromkeys(roots)) + "\n" if roots else "")


def _line(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"


def _interval(row: ScoreRow) -> str:
    bounds = "" if row.low is None else f" [{_number(row.low)}, {_number(row.high)}]"
    return f"{_number(row.mean)}{bounds}"


def _share(row: ScoreRow) -> str:
    if row.hns is None:
        return ""
    bounds = "" if row.hns_low is None or row.hns_high is None else f" [{row.hns_low:.3f}, {row.hns_high:.3f}]"
    return f"{row.hns:.3f}{bounds}"
