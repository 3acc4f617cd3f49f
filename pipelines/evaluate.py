"""Stage `scores`: a checkpoint plays a game under a named protocol, next to random play under the same one.

All episodes of a planner are planned in one batch. Beam search takes longer a decision than greedy play (7 times for
2 x 2 on JOWA-40M, BENCHMARKS.md), so recipes may give it fewer or shorter episodes; the artefact says which. Every
finished episode is kept at once: a run that was killed or interrupted goes on with those that are missing.
Several games share a process and its networks, and on wish their decisions' batches: `run_all`.
Run: `worldline evaluate EXPERIMENT --games Freeway --protocol jowa --planner beam --episodes 16`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.atari.rollout import Episode, Player, play, play_together, replay
from pipelines.configs.learn import EvaluateConfig
from pipelines.evaluation import film
from pipelines.evaluation.entrant import RANDOM, Chosen, Entrant, chance, roster
from pipelines.evaluation.log import EpisodeLog
from pipelines.evaluation.players import AgentPlayer, RandomPlayer
from pipelines.evaluation.record import episode_table, summary
from pipelines.evaluation.seeds import reported_seeds
from pipelines.evaluation.sitting import Sitting, rom_of
from pipelines.progress import say
from pipelines.store.artefact import Artefact
from pipelines.store.cost import CostMeter
from pipelines.store.draft import Draft
from pipelines.store.ref import Ref
from pipelines.store.report import Report
from pipelines.store.store import Store
from pipelines.training.device import pick, require_gpu
from pipelines.training.networks import Networks

GIF_STEPS = 240  # of the first episode; every second one is shown
GIF_RATE, GIF_SCALE = 7.5, 2
TOGETHER = "together.json"  # in the scratch folder: what was played in batches shared with other games


def run(config: EvaluateConfig, store: Store) -> Report:
    """Score a checkpoint on one game, or find its scores."""
    (report,) = run_all([config], store)
    return report


def run_all(configs: Sequence[EvaluateConfig], store: Store, together: int = 1) -> Iterator[Report]:
    """Score several games in turn with networks that are loaded once; an artefact each, handed out when it is made.

    With `together` above 1, the environments of so many games are planned in one batch wherever their planners and
    settings are equal. CPU time a decision, JOWA-40M, float32, one thread, 4 games of 4 environments: beam 2x2 0.115 s
    against 0.179 s alone, greedy 0.034 against 0.035; meant for GPUs, on which it was not run. It changes no choice but
    by rounding, so scores differ only where two actions are worth the same to six digits; hence it is not the default,
    and metrics say which games were played together.
    """
    networks = Networks()
    for first in range(0, len(configs), together):
        batch = configs[first : first + together]
        if len(batch) > 1:
            _play_together(batch, store, networks)
        for config in batch:
            yield store.produce(config.spec(), partial(_build, config, networks))


def _build(config: EvaluateConfig, networks: Networks, draft: Draft) -> None:
    game = _Game(config, draft.parents, draft.scratch, networks)
    with _kept([game]):
        for who in game.everyone:
            table = game.sitting.table(who, game.seeds(who))
            if table.seeds:
                play(table, game.player(who, [config.game] * table.rows), f"Play {config.game}, {who.planner}")
    played = {who.planner: game.sitting.played(who, game.seeds(who)) for who in game.everyone}
    again = partial(replay, config.game, protocol=game.sitting.rules, rom=game.sitting.rom)
    _write_files(config, draft, game.sitting.log, played, again)
    draft.metrics |= {name: summary(episodes) for name, episodes in played.items()}
    for each in game.entrants:
        draft.metrics[each.planner]["settings"] = each.settings() | ({"step": config.step} if config.step else {})
        if each.max_steps != config.max_steps:
            draft.metrics[each.planner]["max_steps"] = each.max_steps
    draft.metrics["behaviour"] = _behaviour(config, draft)
    draft.metrics["device"] = str(game.device)
    if (shared := draft.scratch / TOGETHER).is_file():
        draft.metrics |= json.loads(shared.read_text())
    draft.roots.append(game.sitting.root())
    draft.counts |= {
        "episodes": sum(map(len, played.values())),
        "steps": sum(episode.length for episodes in played.values() for episode in episodes),
    }
    _check(draft, config.planner)


class _Game:
    """One game of an evaluation with all that its config names found, and refused where it cannot be played."""

    def __init__(
        self, config: EvaluateConfig, opened: Mapping[Ref, Artefact], scratch: Path, networks: Networks
    ) -> None:
        self.config, self.device = config, pick(config.precision)
        if config.compile:
            require_gpu(self.device, "evaluate.compile=true", "evaluate.compile=false")
        rom = rom_of(config.game, config.rom_dir, config.rom_md5)
        self.sitting = Sitting.of(config.protocol, rom, scratch, config.envs)
        chosen = Chosen.of(opened[config.tuned]) if config.tuned else None
        self._spent = chosen.spent if chosen else ()
        self.entrants = roster(config, chosen)
        self.everyone = (*self.entrants, chance(config))
        self._networks = partial(
            networks.load, config.game, config.checkpoint, config.pretrained, opened, self.device, config.step
        )  # when asked: others may have played with other ones since
        for each in self.entrants:
            each.require_fit(config.game, self._networks()[1].config)

    def seeds(self, who: Entrant) -> tuple[int, ...]:
        """The emulator's, of every episode."""
        return reported_seeds(self.config.seed, who.episodes, self._spent)

    def player(self, who: Entrant, games: Sequence[str]) -> Player:
        """Who plays, in an environment for each of `games`."""
        if who.planner == RANDOM:
            return RandomPlayer(self.config.game)
        tokenizer, model = self._networks()
        compiled = "inductor" if self.config.compile else ""
        return AgentPlayer(who, games, model, tokenizer, self.device.autocast, compiled)

    def kept(self) -> int:
        """How many episodes are finished."""
        return sum(len(self.sitting.played(who, self.seeds(who))) for who in self.everyone)


def _play_together(configs: Sequence[EvaluateConfig], store: Store, networks: Networks) -> None:
    """Fill the logs of several games; `_build` then finds all but random play done."""
    by_ref = {config.spec().ref: config for config in configs}
    with store.preparing(by_ref) as folders:
        opened = {parent: store.open(parent) for ref in folders for parent in by_ref[ref].spec().parents}
        games = [_Game(by_ref[ref], opened, folder, networks) for ref, folder in folders.items()]
        groups: dict[str, list[tuple[_Game, Entrant]]] = {}
        for game in games:
            for who in game.entrants:
                alike = [who.planner, who.settings(), str(game.config.checkpoint), str(game.device)]
                groups.setdefault(json.dumps(alike), []).append((game, who))
        meter = CostMeter()
        with _kept(games):
            for group in groups.values():
                _play_group(group)
        cost, names = meter.read(), ", ".join(game.config.game for game in games)
        for folder in folders.values() if len(games) > 1 else ():
            shared = {"together": names} | {f"together_{name}": cost[name] for name in ("seconds", "cpu_seconds")}
            (folder / TOGETHER).write_text(json.dumps(shared))


def _play_group(group: Sequence[tuple[_Game, Entrant]]) -> None:
    """The missing episodes of planners that are alike."""
    tables = [game.sitting.table(who, game.seeds(who)) for game, who in group]
    if rows := [table.game for table in tables for _ in range(table.rows)]:
        first, who = group[0]
        play_together(tables, first.player(who, rows), f"Play {', '.join(dict.fromkeys(rows))}, {who.planner}")


@contextmanager
def _kept(games: Sequence[_Game]) -> Iterator[None]:
    """Say on Ctrl-C what is not lost."""
    try:
        yield
    except KeyboardInterrupt:
        for game in games:
            say(
                f"Interrupted: {game.kept()} finished episodes of {game.config.game} are kept, the same command goes "
                "on from there"
            )
        raise


def _write_files(
    config: EvaluateConfig, draft: Draft, log: EpisodeLog, played: Mapping[str, Sequence[Episode]], again: Any
) -> None:
    """The episodes as a table, as lines and with their actions; films of the best, the median and the worst."""
    episode_table(played).to_parquet(draft.path("episodes.parquet"), index=False)
    draft.path("episodes.jsonl").write_text(log.text(played), encoding="utf-8")
    actions = {
        f"{name}-{episode.episode}": np.frombuffer(episode.actions, np.uint8)
        for name, episodes in played.items()
        for episode in episodes
    }
    np.savez_compressed(draft.path("actions.npz"), **actions)  # type: ignore[arg-type]
    shown = played[config.planner]
    film.write_animation(islice(again(shown[0]), 0, GIF_STEPS, 2), draft.path("play.gif"), GIF_RATE, GIF_SCALE)
    for name, episode in film.chosen(shown).items():
        film.write(again(episode), draft.path(f"{name}.mp4"))


def _check(draft: Draft, planner: str) -> None:
    ours, chance = draft.metrics[planner], draft.metrics["random"]
    draft.check(
        "beats_random",
        ours["mean"] > chance["mean"],
        f"{planner} {ours['mean']:.1f} ± {ours['std']:.1f} over {ours['episodes']} episodes, "
        f"random {chance['mean']:.1f} ± {chance['std']:.1f} over {chance['episodes']}",
    )


def _behaviour(config: EvaluateConfig, draft: Draft) -> dict[str, float | None]:
    """What the data itself scored at its best and on the whole; None where the replay holds clipped rewards only."""
    if config.collected is None:
        return {"mean": None, "overall_mean": None}
    found = draft.parents[config.collected].manifest.metrics
    return {"mean": found["behaviour_return"], "overall_mean": found["mean_return"]}
