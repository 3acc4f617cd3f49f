"""Checkpoints at rest: one `agent.json` and all networks as safetensors; kept on the way, and loaded to play.

`agent.json` holds the family's name and config and the spaces that it was trained on: whoever loads a checkpoint needs
nothing else and names no family.

`checkpoints/step-N/` holds a run's networks under the names that they have in the artefact; `checkpoints/index.json`
lists them with their returns: the newest few, and the best few by what they returned in play. They lie in the scratch
folder while a run goes on and in its artefact in the end. Nothing is ever unpickled.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from models.api import Agent
from models.registry import family, family_of
from models.spaces import Spaces
from models.worlds import TakesOver
from pipelines.errors import UsageError, WorldlineError, may_pass, not_now
from pipelines.redact import one_line
from pipelines.store.artefact import Artefact, Draft
from pipelines.store.files import sync, write_whole
from pipelines.store.stage_config import canonical_json
from pipelines.training.device import Device
from pipelines.training.distributed.ranks import ALONE, Ranks
from pipelines.training.metrics import forget_pictures, pictures_in, show_pictures
from pipelines.training.schedule import LoopConfig

AGENT = "agent.json"
FORMAT = 1


def save_agent(folder: Path, agent: Agent) -> None:
    """Write `agent.json` and every network's weights and buffers into `folder`."""
    for name, network in agent.networks.items():
        tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}
        save_file(tensors, folder / _file(name))
    spaces = {"spaces": agent.spaces.to_json()} if agent.spaces else {}
    data = {"format": FORMAT, "family": agent.config.family, "config": agent.config.plain(), **spaces}
    (folder / AGENT).write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")


def saved_agent(folder: Path, device: Device) -> Agent:
    """What `save_agent` wrote into `folder`, frozen and in eval mode. Raises WorldlineError as `load_agent`."""
    agent = _build(folder / AGENT)
    for name, network in agent.networks.items():
        _fill(network, folder / _file(name), device)
    return agent


def name_parts(draft: Draft, agent: Agent) -> None:
    """Make each network a part of the artefact, so that a stage may depend on that network alone; and all of them one.

    What belongs to a network are its weights, and what the agent's config says under the network's name. The part
    `agent` is what plays and learns on: it holds no curves and no times, so that a training that is repeated bit for
    bit makes the same agent.
    """
    config = agent.config.plain()
    for name in agent.networks:
        own = canonical_json([agent.config.family, config.get(name)])
        draft.part(name, [_file(name)], hashlib.sha256(own.encode()).hexdigest())
    written = [path.relative_to(draft.folder).as_posix() for path in draft.files()]
    draft.part("agent", [name for name in written if name == AGENT or name.endswith(".safetensors")])


def load_agent(artefact: Artefact, device: Device, step: int = 0) -> Agent:
    """The agent of a checkpoint, frozen and in eval mode on the device.

    `step` takes it as it was after so many steps, where training kept that; 0 as it is at the end. Raises UsageError
    for an artefact that holds no agent or no such step, WorldlineError for a damaged file.
    """
    if AGENT not in artefact.names():
        raise UsageError(f"{artefact.ref} holds no agent ({AGENT}): name the artefact of a training or an import")
    if step and step not in (kept := kept_steps(artefact.names())):
        choices = f"choose of {', '.join(map(str, kept))}" if kept else "it keeps none (loop.checkpoint_every)"
        raise UsageError(
            f"{artefact.ref} keeps no checkpoint of step {step}: {choices}, or set evaluate.step=0, the finished one"
        )
    agent = _build(artefact.path(AGENT))
    for name, network in agent.networks.items():
        kept_file = f"{kept_folder(step)}/{_file(name)}"
        _fill(network, artefact.path(kept_file if step and kept_file in artefact.names() else _file(name)), device)
    return agent


def take_weights(agent: Agent, other: Agent, what: str) -> None:
    """Give the networks of `agent` the weights of `other`, which goes on from there under a config of its own.

    what: how messages name the other. Raises UsageError where it is of another family, knows other actions, has
    networks of other sizes, or such as make something else of the same weights.
    """
    ours, theirs = family_of(agent.config).name, other.config.family
    if ours != theirs:
        raise UsageError(f"{what} is of the family '{theirs}', and '{ours}' learns here: name an agent of that family")
    known, wanted = (getattr(each.config, "actions", ()) for each in (other, agent))
    if known != wanted:
        told = [_known(each) for each in (known, wanted)]
        raise UsageError(f"{what} knows {told[0]}, and {told[1]} are learned here: name an agent of the same game")
    weights = {name: other.networks[name].state_dict() for name in agent.networks}
    for name, network in agent.networks.items():
        own, found = network.state_dict(), weights[name]
        for weight in [*own, *(each for each in found if each not in own)]:
            has, here = (str(tuple(each[weight].shape)) if weight in each else "missing" for each in (found, own))
            if has != here:
                raise UsageError(
                    f"{what} has other networks: weight '{weight}' of '{name}' is {has}, here {here}: set the sizes of "
                    "the networks as its agent.json has them"
                )
    _require_meaning(agent, other, what)
    for name, network in agent.networks.items():
        network.load_state_dict(weights[name])
    agent.spaces = other.spaces


def take_world(agent: Agent, other: Agent, what: str) -> None:
    """Let the world model of `agent` go on from one that learned videos; what: how messages name that one.

    Raises UsageError where it is of another family or of other sizes, and where this family learns no videos.
    """
    ours, theirs = family_of(agent.config).name, other.config.family
    if ours != theirs:
        raise UsageError(f"{what} is of the family '{theirs}', and '{ours}' learns here: name a world of that family")
    if not isinstance(agent, TakesOver):
        raise UsageError(f"{what} cannot be gone on with: agents of the family '{ours}' learn no videos")
    try:
        agent.take_over(other)
    except ValueError as error:
        raise UsageError(f"{what} does not fit: {error}") from error


def _known(actions: Any) -> str:
    """What an agent knows of actions, in words."""
    if isinstance(actions, int):
        return f"{actions} numbers an action"
    return f"{len(actions)} actions ({', '.join(map(str, actions))})" if actions else "all actions"


def _require_meaning(agent: Agent, other: Agent, what: str) -> None:
    for part, names in agent.config.meaning.items():
        for name in names:
            theirs, ours = (getattr(getattr(each.config, part), name, None) for each in (other, agent))
            if theirs != ours:
                raise UsageError(
                    f"{what} has {part}.{name} {theirs}, here it is {ours}: the same weights would mean something "
                    f"else, set it to {theirs} as its agent.json has it"
                )


def agent_files(names: Iterable[str]) -> list[str]:
    """Of an artefact's files, those that make its finished agent."""
    return sorted(name for name in names if name == AGENT or ("/" not in name and name.endswith(".safetensors")))


def _file(network: str) -> str:
    return f"{network}.safetensors"


def _build(path: Path) -> Agent:
    """Fresh networks of the config in an agent.json."""
    try:
        data = json.loads(path.read_text())
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']}, this version reads {FORMAT}")
        found = family(data["family"])
        agent = found.build(found.config.of(data["config"]))
        agent.spaces = Spaces.from_json(data["spaces"]) if "spaces" in data else None
        return agent
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        if may_pass(error):
            raise not_now(path, error) from error
        raise WorldlineError(f"{path} describes no agent of Worldline ({error}): make its artefact again") from error


def _fill(network: nn.Module, path: Path, device: Device) -> None:
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, OSError) as error:
        if may_pass(error):
            raise not_now(path, error) from error
        why = one_line(error)[:200]  # torch names every weight, a line each
        raise WorldlineError(f"{path} does not hold this network ({why}): make its artefact again") from error
    network.requires_grad_(False)
    network.to(torch.device(device.name)).eval()


FOLDER = "checkpoints"

INDEX = "index.json"


def kept_folder(step: int) -> str:
    """Where the checkpoint of a step lies, below the scratch folder or the artefact."""
    return f"{FOLDER}/step-{step}"


def kept_steps(names: Iterable[str]) -> list[int]:
    """The steps of the checkpoints among an artefact's files, in order."""
    found = (re.match(rf"{FOLDER}/step-(\d+)/", name) for name in names)
    return sorted({int(each[1]) for each in found if each})


@dataclass(frozen=True)
class KeptCheckpoint:
    """One checkpoint: steps done, mean return by game where it was played, and whether it is among the best."""

    step: int
    returns: Mapping[str, float] = field(default_factory=dict)
    best: bool = False

    @property
    def score(self) -> float:
        """What `best` goes by: the mean over games."""
        return sum(self.returns.values()) / len(self.returns)


@dataclass(frozen=True)
class CheckpointManager:
    """Makes, plays and drops checkpoints under `scratch`.

    save: writes the networks into a folder, with pictures of what they see, and says what is logged of them. play: mean
    returns by game, called on all ranks; None where a run has nothing that plays. Raises UsageError when plays are
    asked for and there is none.
    """

    scratch: Path
    loop: LoopConfig
    save: Callable[[Path], Mapping[str, float] | None]
    play: Callable[[], Mapping[str, float]] | None = None
    ranks: Ranks = ALONE

    def __post_init__(self) -> None:
        if self.loop.evaluate_every and self.play is None:
            raise UsageError(
                f"loop.evaluate_every is {self.loop.evaluate_every}, but nothing that this stage trains can play: "
                "set it for the train stage"
            )

    @property
    def folder(self) -> Path:
        """Where they lie while the run goes on."""
        return self.scratch / FOLDER

    def keep(self, step: int, play: bool) -> dict[str, float]:
        """Keep a checkpoint after `step` steps; with `play`, let it play first. Called on all ranks.

        Returns what is logged of it: the mean return, by game where there are several, and what `save` says.
        """
        returns = self.play() if play and self.play else {}
        told = {"return" if len(returns) == 1 else f"return_{game}": value for game, value in returns.items()}
        if self.ranks.first:
            aside = self.folder / f".step-{step}"
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            told |= self.save(aside) or {}
            for path in (*aside.iterdir(), aside):  # the state that goes on after a power cut relies on them
                sync(path)
            shutil.rmtree(self._place(step), ignore_errors=True)
            aside.rename(self._place(step))
            self._settle([*(each for each in self.kept() if each.step != step), KeptCheckpoint(step, returns)])
            show_pictures(self.scratch, step, pictures_in(self._place(step)))
        return told

    def kept(self) -> list[KeptCheckpoint]:
        """What there is, oldest first."""
        path = self.folder / INDEX
        return [KeptCheckpoint(**entry) for entry in json.loads(path.read_text())] if path.exists() else []

    def forget_after(self, step: int) -> None:
        """Drop checkpoints that a resumed run will make again."""
        if self.ranks.first and self.folder.exists():
            self._settle([each for each in self.kept() if each.step <= step])
            forget_pictures(self.scratch, step)

    def copy_to(self, artefact: Path) -> None:
        """Put them into the finished artefact."""
        if self.folder.exists():
            shutil.copytree(self.folder, artefact / FOLDER, ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)

    def _settle(self, found: list[KeptCheckpoint]) -> None:
        """Keep the newest and the best of `found`, which is in order; first the index, then the folders."""
        played = sorted((each for each in found if each.returns), key=lambda each: (each.score, each.step))
        best = {each.step for each in played[max(len(played) - self.loop.keep_best, 0) :]}
        last = {each.step for each in found[-self.loop.keep_last :]}
        left = [
            KeptCheckpoint(each.step, each.returns, each.step in best) for each in found if each.step in best | last
        ]
        entries = json.dumps([asdict(each) for each in left], indent=1) + "\n"
        write_whole(self.folder / INDEX, entries.encode(), self.folder / f".{INDEX}")
        known = {self._place(each.step) for each in left}
        for folder in self.folder.glob("step-*"):
            if folder not in known:
                shutil.rmtree(folder, ignore_errors=True)

    def _place(self, step: int) -> Path:
        return self.scratch / kept_folder(step)


class LoadedAgent:
    """The agent of a checkpoint, loaded once for all the games that it plays in a process: the newest one only."""

    def __init__(self) -> None:
        self._of: tuple[str, Device, int] | None = None
        self._agent: Agent | None = None

    def load(self, artefact: Artefact, device: Device, step: int = 0) -> Agent:
        """As `load_agent`; at once where it is the one that was asked for last."""
        wanted = (artefact.digest, device, step)
        if self._agent is None or wanted != self._of:
            self._agent = None  # before the next one takes as much memory again
            self._of, self._agent = wanted, load_agent(artefact, device, step)
        return self._agent


def require_family(agent: Agent, name: str, what: str) -> None:
    """Raises UsageError where `what` is for another family than the agent's."""
    if family_of(agent.config).name != name:
        raise UsageError(f"{what} is for agents of the family '{name}', this one is of '{agent.config.family}'")
