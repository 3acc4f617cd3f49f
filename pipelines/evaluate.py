"""Stage `scores`: a checkpoint plays a game under a named protocol, next to random play under the same one.

All episodes of a planner are planned in one batch. Beam search takes longer a decision than greedy play (7 times for
2 x 2 on JOWA-40M, BENCHMARKS.md), so recipes may give it fewer or shorter episodes; the artefact says which. Every
finished episode is kept at once: a run that was killed or interrupted goes on with those that are missing.
Run: `worldline evaluate EXPERIMENT --games Freeway --protocol jowa --planner beam --episodes 16`.
"""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from models.jowa.model import Jowa
from models.tokenizers.vq import Tokenizer
from pipelines.atari.environment import emulator_seeds
from pipelines.atari.protocols import Protocol, protocol
from pipelines.atari.rollout import Episode, Player, play, replay
from pipelines.atari.roms import Rom, find, require, shipped
from pipelines.atari.scores import iqm
from pipelines.configs.learn import EvaluateConfig
from pipelines.errors import UsageError
from pipelines.evaluation import film
from pipelines.evaluation.entrant import Entrant, roster
from pipelines.evaluation.log import EpisodeLog
from pipelines.evaluation.players import AgentPlayer, RandomPlayer
from pipelines.progress import say
from pipelines.store.draft import Draft
from pipelines.store.report import Report
from pipelines.store.store import Store
from pipelines.training.checkpoint import MODEL, TOKENIZER, load_model, load_tokenizer
from pipelines.training.device import Device, pick

GIF_STEPS = 240  # of the first episode; every second one is shown
GIF_RATE, GIF_SCALE = 7.5, 2


def run(config: EvaluateConfig, store: Store) -> Report:
    """Score a checkpoint on one game, or find its scores."""
    return store.produce(config.spec(), lambda draft: _build(config, draft))


def _build(config: EvaluateConfig, draft: Draft) -> None:
    rules, rom, device = protocol(config.protocol), _rom(config), pick(config.precision)
    under = {"protocol": rules.name, "emulator": f"ale-py {version('ale-py')}", "rom_md5": rom.md5}
    log = EpisodeLog(draft.scratch, under)
    entrants = roster(config)
    chance = Entrant("random", config.random_episodes, config.max_steps, context=0, epsilon=1.0)
    tokenizer, model = _networks(config, draft, device)
    for each in entrants:
        each.require_fit(config.game, model.config)

    def player(who: Entrant) -> Player:
        if who is chance:
            return RandomPlayer(config.game)
        rows = min(config.envs or who.episodes, who.episodes)
        return AgentPlayer(who, config.game, model, tokenizer, rows, device.autocast)

    everyone = (*entrants, chance)
    try:
        played = {who.planner: _play(config, log, rules, rom, player(who), who) for who in everyone}
    except KeyboardInterrupt:
        kept = sum(len(log.found(who.planner)) for who in everyone)
        say(f"Interrupted: {kept} finished episodes of {config.game} are kept, the same command goes on from there")
        raise
    _write_files(config, draft, log, played, partial(replay, config.game, protocol=rules, rom=rom))
    draft.metrics |= {name: _summary(episodes) for name, episodes in played.items()}
    for each in entrants:
        draft.metrics[each.planner]["settings"] = each.settings()
        if each.max_steps != config.max_steps:
            draft.metrics[each.planner]["max_steps"] = each.max_steps
    draft.metrics["behaviour"] = _behaviour(config, draft)
    draft.metrics["device"] = str(device)
    draft.roots.append(
        {
            "game": config.game,
            **under,
            "rom": rom.origin,
            "replays_rom": rom.is_replays,
            "sticky": rules.sticky,
            "noop_max": rules.noop_max,
            "max_steps": rules.max_steps,
        }
    )
    draft.counts |= {
        "episodes": sum(map(len, played.values())),
        "steps": sum(episode.length for episodes in played.values() for episode in episodes),
    }
    _check(draft, config.planner)


def _rom(config: EvaluateConfig) -> Rom:
    """The ROM to play: yours where the config names one, else ale-py's. Raises an error of one line for another md5."""
    ours = shipped(config.game)
    rom = find(config.game, Path(config.rom_dir)) if config.rom_dir else ours
    if rom.md5 == ours.md5:
        rom = ours
    elif not config.rom_md5:
        raise UsageError(
            f"The ROM of {config.game} in {config.rom_dir} is not ale-py's, and scores are known by their ROM: set "
            f"evaluate.rom_md5={rom.md5} too, as 'worldline evaluate --rom-dir' does"
        )
    if config.rom_md5 and rom.md5 != config.rom_md5:
        require(config.game, config.rom_md5)
    return rom


def _networks(config: EvaluateConfig, draft: Draft, device: Device) -> tuple[Tokenizer, Jowa]:
    if config.checkpoint is None:
        raise UsageError(f"Scores of {config.game} need a checkpoint: name its artefact")
    holder = draft.parents[config.pretrained or config.checkpoint]
    if TOKENIZER not in holder.names():
        raise UsageError(
            f"{holder.ref} holds no tokenizer, without which {config.game} cannot be seen: name the artefact of the "
            "tokenizer that its model was trained with"
        )
    model = load_model(draft.parents[config.checkpoint].path(MODEL), device)
    return load_tokenizer(holder.path(TOKENIZER), device), model


def _play(
    config: EvaluateConfig, log: EpisodeLog, rules: Protocol, rom: Rom, player: Player, who: Entrant
) -> list[Episode]:
    """All episodes of one player by number: those that the log holds already, and the others played now."""
    found = {number: episode for number, episode in log.found(who.planner).items() if number < who.episodes}
    seeds = dict(enumerate(emulator_seeds(config.seed, who.episodes)))
    missing = {number: seed for number, seed in seeds.items() if number not in found}
    if found:
        say(f"{config.game}, {who.planner}: {len(found)} of {who.episodes} episodes were played already")

    def finished(episode: Episode) -> None:
        log.add(who.planner, who.settings() if who.context else {}, episode)
        found[episode.episode] = episode

    if missing:
        play(
            config.game,
            player,
            rules,
            missing,
            finished,
            envs=config.envs,
            max_steps=who.max_steps,
            rom=rom,
            title=f"Play {config.game}, {who.planner}",
        )
    return [found[number] for number in sorted(found)]


def _write_files(
    config: EvaluateConfig, draft: Draft, log: EpisodeLog, played: Mapping[str, Sequence[Episode]], again: Any
) -> None:
    """The episodes as a table, as lines and with their actions; films of the best, the median and the worst."""
    _episode_table(played).to_parquet(draft.path("episodes.parquet"), index=False)
    shutil.copyfile(log.path, draft.path("episodes.jsonl"))
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


def _summary(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Statistics of raw returns (arXiv 2410.00564, evaluation), and the mean of the sign-clipped ones."""
    scores = np.array([episode.score for episode in episodes])
    return {
        "mean": round(float(scores.mean()), 4),
        "std": round(float(scores.std(ddof=1)) if len(scores) > 1 else 0.0, 4),
        "median": float(np.median(scores)),
        "iqm": round(iqm(scores.tolist()), 4),
        "clipped_mean": round(float(np.mean([episode.clipped_score for episode in episodes])), 4),
        "episodes": len(scores),
        "mean_length": round(float(np.mean([episode.length for episode in episodes])), 1),
    }


def _behaviour(config: EvaluateConfig, draft: Draft) -> dict[str, float | None]:
    """What the data itself scored at its best and on the whole; None where the replay holds clipped rewards only."""
    if config.collected is None:
        return {"mean": None, "overall_mean": None}
    found = draft.parents[config.collected].manifest.metrics
    return {"mean": found["behaviour_return"], "overall_mean": found["mean_return"]}


def _episode_table(played: Mapping[str, Sequence[Episode]]) -> pd.DataFrame:
    rows = [
        {
            "planner": name,
            "episode": episode.episode,
            "seed": episode.seed,
            "return": episode.score,
            "clipped_return": episode.clipped_score,
            "length": episode.length,
            "ended": episode.ended,
        }
        for name, episodes in played.items()
        for episode in episodes
    ]
    return pd.DataFrame(rows)
