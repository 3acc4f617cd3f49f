"""Stage `scores`: a checkpoint plays a game under a named protocol, next to random play under the same one.

All episodes of a planner are planned in one batch. Beam search takes longer a decision than greedy play
(BENCHMARKS.md), so recipes may give it fewer or shorter episodes; the artefact says which. Every finished episode is
kept at once: a run that was killed or interrupted goes on with those that are missing.
Several games share a process and its networks, and on wish their decisions' batches: `run_all`.
Run: `worldline evaluate EXPERIMENT --games Freeway --protocol jowa --planner beam --episodes 16`.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from models.limits import Few, Natural, Seed, Size
from pipelines.environments.actions import stored_action
from pipelines.environments.registry import options
from pipelines.environments.rollout import Episode, Player, play, play_together, replay
from pipelines.errors import UsageError, WorldlineError
from pipelines.evaluation.player_settings import (
    RANDOM,
    TUNED_FIELDS,
    TUNED_HORIZON,
    Chosen,
    PlayConfig,
    PlayerSettings,
    Searcher,
    _entrant,
    require_players,
    tuned,
)
from pipelines.evaluation.session import EpisodeLog, EvaluationSession, episode_table, reported_seeds, summary
from pipelines.progress import say
from pipelines.store.artefact import Artefact, Draft, Report
from pipelines.store.machine import CostMeter
from pipelines.store.ref import Ref
from pipelines.store.stage_config import (
    Beside,
    StageConfig,
    Work,
    canonical_json,
    filled,
    manner,
    networks_named,
    option,
    parent,
)
from pipelines.store.store import Store

if TYPE_CHECKING:
    from pipelines.training.checkpoints import LoadedAgent

GIF_STEPS = 240  # of the first episode; every second one is shown

GIF_RATE, GIF_SCALE = 7.5, 2

TOGETHER = "together.json"  # in the scratch folder: what was played in batches shared with other games


@dataclass(frozen=True)
class EvaluateConfig(PlayConfig, StageConfig):
    """Play a game with a checkpoint under a named protocol, next to random play under the same one.

    `planner` plays `episodes`. Beside it a search, `beside`, may play `beam_episodes` of its own, shorter if need be.
    `beam_width` and `beam_horizon` are those of any search. `settings` names a set of tuned numbers in place
    of `context`, `beam_width` and `beam_horizon`; their defaults stand in games that it does not know.
    """

    STAGE: ClassVar[str] = "scores"
    VERB: ClassVar[str] = "evaluate"
    CODE: ClassVar[str] = "4"
    CHECKS: ClassVar[tuple[str, ...]] = ("beats_random",)

    game: str = filled("game", "")
    agent: Ref | None = parent(makes="agent", part="agent")  # who plays
    collected: Ref | None = parent("collected_replay", soft=True)  # the behaviour's raw returns, if played here
    tuned: Ref | None = parent("tuned", added=True)  # whose best settings play; none of its episodes is reported
    episodes: Size = 16
    context: Size = 4  # newest steps the policy sees, at most 8
    beam_episodes: Few = 0
    beam_width: Size = 2
    beam_horizon: Size = 2
    beam_steps: Natural = 0  # agent steps at which a beam-search episode is cut; 0 plays to the end
    random_episodes: Size = 8
    seed: Seed = filled("seed", 0)
    settings: str = option("")
    step: Natural = option(
        0
    )  # of the checkpoints kept while training, the one after so many steps; 0: the finished one
    beside: Searcher = option("beam")  # the search that plays `beam_episodes`
    compile: bool = manner(False)  # what is imagined runs compiled, on GPUs; changes no choice but by rounding

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.settings or self.tuned:
            self._refuse_own_numbers()
        if self.planner == self.beside and self.beam_episodes:
            raise UsageError(
                f"Evaluation with planner {self.planner} and beam_episodes {self.beam_episodes} plays {self.beside} "
                "twice: set beam_episodes to 0"
            )

    @property
    def subject(self) -> str:
        return self.game

    @property
    def players(self) -> tuple[str, ...]:
        """The planners that play."""
        return (self.planner, self.beside) if self.beam_episodes else (self.planner,)

    def work(self, beside: Beside) -> Work:
        """The episodes of all players, by these rules and networks."""
        rules = canonical_json([self.protocol, self.players, self.max_steps, self.beam_steps])
        amount = self.episodes + self.beam_episodes + self.random_episodes
        return Work("episodes", amount, networks_named(beside) + rules)

    def fill(self, values: dict[str, Any], beside: Beside) -> Self:
        """Where settings are searched for, the search brings them."""
        if values.get("tuned") is not None:
            values = {entry.name: entry.default for entry in fields(self) if entry.name in TUNED_FIELDS} | values
        return super().fill(values, beside)

    def check_beside(self, beside: Beside) -> None:
        """The model must see as many steps as the policy looks at."""
        longest = getattr(beside.template("segment"), "length", self.context)
        if beside.template("pretrain") is not None and self.context > longest:
            raise UsageError(
                f"Recipe '{beside.name}': evaluate.context is {self.context} but the model sees {longest} steps: lower "
                "it or raise pretrain.model.max_steps"
            )

    def check_frozen(self, beside: Beside) -> None:
        """The agent can play so, and the checkpoint that plays is one that training keeps."""
        if self.tuned is None:
            require_players(roster(self), self, beside)
        if self.step:
            trained = [each for verb in ("train", "finetune", "learn") if (each := beside.template(verb)) is not None]
            if trained and not trained[-1].keeps(self.step):  # type: ignore[attr-defined]
                raise UsageError(
                    f"Recipe '{beside.name}': evaluate.step is {self.step} and {trained[-1].VERB} keeps no checkpoint "
                    f"of that step: set {trained[-1].VERB}.loop.checkpoint_every so that it does, or evaluate.step=0"
                )

    def _refuse_own_numbers(self) -> None:
        """Never let a setting that has no effect pass in silence."""
        if self.tuned and (self.settings or self.beam_episodes):
            raise UsageError(
                f"Evaluation with the settings that {self.tuned} found for one planner: set evaluate.settings= (it is "
                f"'{self.settings}') and evaluate.beam_episodes=0 (it is {self.beam_episodes})"
            )
        if self.tuned and self.step:
            raise UsageError(
                f"Evaluation of step {self.step} with settings that {self.tuned} found for the finished checkpoint: "
                "set evaluate.step=0, or give the settings themselves"
            )
        if self.settings:
            tuned(self.settings, self.game)
        defaults = {entry.name: entry.default for entry in fields(self) if entry.name in TUNED_FIELDS}
        for name, default in defaults.items():
            if (value := getattr(self, name)) != default:
                raise UsageError(
                    f"Evaluation with settings {self.settings or self.tuned} and {name} {value}: the set brings its "
                    f"own; leave {name} at {default}, or settings empty (evaluate.settings=)"
                )


def run(config: EvaluateConfig, store: Store) -> Report:
    """Score a checkpoint on one game, or find its scores."""
    (play,) = run_all([config], store)
    return play()


def run_all(configs: Sequence[EvaluateConfig], store: Store, together: int = 1) -> Iterator[Callable[[], Report]]:
    """Score several games in turn with networks that are loaded once: for each what makes its artefact when called.

    With `together` above 1, the environments of so many games are planned in one batch wherever their planners and
    settings are equal. It is meant for GPUs (BENCHMARKS.md). It changes no choice but by rounding, so scores differ
    only where two actions are worth the same to six digits; hence it is not the default, and metrics say which games
    were played together.
    """
    from pipelines.training.checkpoints import LoadedAgent  # torch is imported where something plays

    agents = LoadedAgent()
    for first in range(0, len(configs), together):
        batch = configs[first : first + together]
        if len(batch) > 1:
            with suppress(WorldlineError):  # a game that cannot be played says so when its turn comes, alone
                _play_together(batch, store, agents)
        for config in batch:
            yield partial(store.produce, config.spec(), partial(_build, config, agents))


def _build(config: EvaluateConfig, agents: "LoadedAgent", draft: Draft) -> None:
    game = _Game(config, draft.parents, draft.scratch, agents)
    with _kept([game]):
        for who in game.everyone:
            table = game.session.table(who, game.seeds(who))
            if table.seeds:
                play(table, game.player(who, [config.game] * table.rows), f"Play {config.game}, {who.planner}")
    played = {who.planner: game.session.played(who, game.seeds(who)) for who in game.everyone}
    again = partial(replay, config.game, rules=game.session.rules, **game.session.options)
    _write_files(config, draft, game.session.log, played, again)
    draft.metrics |= {name: summary(episodes) for name, episodes in played.items()}
    for each in game.players:
        draft.metrics[each.planner]["settings"] = each.settings() | ({"step": config.step} if config.step else {})
        if each.max_steps != config.max_steps:
            draft.metrics[each.planner]["max_steps"] = each.max_steps
    draft.metrics["behaviour"] = _behaviour(config, draft)
    draft.metrics |= game.device.metrics()
    if (shared := draft.scratch / TOGETHER).is_file():
        draft.metrics |= json.loads(shared.read_text())
    draft.roots.append(game.session.root())
    draft.counts |= {
        "episodes": sum(map(len, played.values())),
        "steps": sum(episode.length for episodes in played.values() for episode in episodes),
    }
    _check(draft, config.planner)


class _Game:
    """One game of an evaluation with all that its config names found, and refused where it cannot be played."""

    def __init__(
        self, config: EvaluateConfig, opened: Mapping[Ref, Artefact], scratch: Path, agents: "LoadedAgent"
    ) -> None:
        from pipelines.training.device import pick, require_gpu, settle

        self.config, self.device = config, pick(config.precision, leased=True)
        if config.compile:
            require_gpu(self.device, "evaluate.compile=true", "evaluate.compile=false")
        given = options(config.game, config.rom_dir, config.rom_md5)
        self.session = EvaluationSession.of(config.game, config.protocol, scratch, config.envs, given)
        chosen = Chosen.of(opened[config.tuned]) if config.tuned else None
        self._spent = chosen.spent if chosen else ()
        self.players = roster(config, chosen)
        self.everyone = (*self.players, chance(config))
        if config.agent is None:
            raise UsageError(f"Scores of {config.game} need an agent: name its artefact")
        # Loaded when asked: others may have played with other ones since.
        self._agent = partial(agents.load, opened[config.agent], self.device, config.step)
        self.device = settle(self._agent(), self.device, config.precision)
        for each in self.players:
            each.require_fit(config.game, self._agent(), self.session.rules)

    def seeds(self, who: PlayerSettings) -> tuple[int, ...]:
        """The emulator's, of every episode."""
        return reported_seeds(self.config.seed, who.episodes, self._spent)

    def player(self, who: PlayerSettings, games: Sequence[str]) -> Player:
        """Who plays, in an environment for each of `games`."""
        from pipelines.evaluation.players import AgentPlayer, RandomPlayer

        if who.planner == RANDOM:
            return RandomPlayer(self.config.game)
        compiled = "inductor" if self.config.compile else ""
        return AgentPlayer(who, games, self._agent(), partial(self.device.piece, who.planner), compiled)

    def kept(self) -> int:
        """How many episodes are finished."""
        return sum(len(self.session.played(who, self.seeds(who))) for who in self.everyone)


def _play_together(configs: Sequence[EvaluateConfig], store: Store, agents: "LoadedAgent") -> None:
    """Fill the logs of several games; `_build` then finds all but random play done."""
    by_ref = {config.spec().ref: config for config in configs}
    with store.preparing([config.spec() for config in configs]) as missing:
        games = [_Game(by_ref[ref], opened, folder, agents) for ref, (folder, opened) in missing.items()]
        groups: dict[str, list[tuple[_Game, PlayerSettings]]] = {}
        for game in games:
            for who in game.players:
                alike = [who.planner, who.settings(), str(game.config.agent), str(game.device)]
                groups.setdefault(json.dumps(alike), []).append((game, who))
        if not missing:
            return
        first, _ = next(iter(missing.values()))
        costs = first / "together"  # of what these games share; each has its own beside it
        costs.mkdir(exist_ok=True)
        meter = CostMeter()
        with _kept(games), meter.kept(costs):
            for group in groups.values():
                _play_group(group)
        cost, names = meter.read(), ", ".join(game.config.game for game in games)
        for folder, _ in missing.values() if len(games) > 1 else ():
            shared = {"together": names} | {f"together_{name}": cost[name] for name in ("seconds", "cpu_seconds")}
            (folder / TOGETHER).write_text(json.dumps(shared))


def _play_group(group: Sequence[tuple[_Game, PlayerSettings]]) -> None:
    """The missing episodes of planners that are alike."""
    tables = [game.session.table(who, game.seeds(who)) for game, who in group]
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
    from pipelines.evaluation import film

    episode_table(played).to_parquet(draft.path("episodes.parquet"), index=False)
    draft.path("episodes.jsonl").write_text(log.text(played), encoding="utf-8")
    kind = stored_action(config.game)
    actions = {
        f"{name}-{episode.episode}": np.frombuffer(episode.actions, kind.base).reshape(-1, *kind.shape)
        for name, episodes in played.items()
        for episode in episodes
    }
    np.savez_compressed(draft.path("actions.npz"), **actions)  # type: ignore[arg-type]
    shown = played[config.planner]
    film.write_animation(islice(again(shown[0]), 0, GIF_STEPS, 2), draft.path("play.gif"), GIF_RATE, GIF_SCALE)
    for name, episode in film.chosen(shown).items():
        film.write(again(episode), draft.path(f"{name}.mp4"))


def spread(figures: Mapping[str, Any]) -> str:
    """A mean of `summary` with its standard deviation, "3.0 ± 1.4"; of one episode, also of an old one, "3.0"."""
    mean, std = f"{figures['mean']:.1f}", figures["std"]
    return mean if std is None or figures["episodes"] < 2 else f"{mean} ± {std:.1f}"


def _check(draft: Draft, planner: str) -> None:
    ours, chance = draft.metrics[planner], draft.metrics["random"]
    draft.check(
        "beats_random",
        ours["mean"] > chance["mean"],
        f"{planner} {spread(ours)} over {ours['episodes']} episode{'s' if ours['episodes'] > 1 else ''}, "
        f"random {spread(chance)} over {chance['episodes']}",
    )


def _behaviour(config: EvaluateConfig, draft: Draft) -> dict[str, float | None]:
    """What the data itself scored at its best and on the whole; None where the replay holds clipped rewards only."""
    if config.collected is None:
        return {"mean": None, "overall_mean": None}
    found = draft.parents[config.collected].manifest.metrics
    return {"mean": found["behaviour_return"], "overall_mean": found["mean_return"]}


def chance(config: EvaluateConfig) -> PlayerSettings:
    """Random play, next to which all others are shown."""
    return PlayerSettings(RANDOM, config.random_episodes, config.max_steps, context=0, epsilon=1.0)


def roster(config: EvaluateConfig, chosen: Chosen | None = None) -> list[PlayerSettings]:
    """The planners of an evaluation, with `chosen` or tuned numbers where the config names such.

    Raises UsageError for numbers that were chosen for another planner.
    """
    context, width, horizon, search = config.context, config.beam_width, config.beam_horizon, config.search
    if chosen is not None:
        if chosen.planner != config.planner:
            raise UsageError(
                f"The settings of {config.tuned} were chosen for {chosen.planner}, not {config.planner}: set "
                f"evaluate.planner={chosen.planner}, or search for {config.planner}'s own"
            )
        context, width, horizon = chosen.context, chosen.width, chosen.horizon
        search = replace(search, leaf=chosen.leaf)
    if config.settings:
        if (known := tuned(config.settings, config.game)) is None:
            say(f"{config.settings} has no numbers for {config.game}: context {context} and width {width} stand")
        else:
            context, width, horizon = known.context, known.width, TUNED_HORIZON

    def settings(planner: str, episodes: int, max_steps: int) -> PlayerSettings:
        return _entrant(planner, episodes, max_steps, context, config.epsilon, width, horizon, search)

    found = [settings(config.planner, config.episodes, config.max_steps)]
    if config.beam_episodes:
        found.append(settings(config.beside, config.beam_episodes, config.beam_steps or config.max_steps))
    return found
