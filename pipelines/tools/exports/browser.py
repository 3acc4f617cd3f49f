"""A checkpoint's world model as a folder of static files: a page that plays inside it, with no Python behind it.

    index.html dream.js       the page; keys.js, pictures.js, play.css, icon.svg are those of `worldline play`
    read.onnx step.onnx       the world model, with the cache of keys and values as inputs and outputs
    decode.onnx               the tokenizer's decoder
    world.json                the game's actions, sizes, and the real beginnings of dreams as tokens
    lineage.json              the whole tree of what the checkpoint was made from
    ort/                      ONNX Runtime for browsers (see onnx_runtime_web.py)

Any static server shows it, such as `python -m http.server`. Reading back plays CHECKED steps in ONNX Runtime here and
compares them with the agent's own dream: every observation, reward and end must be the same.
Run: `worldline export browser EXPERIMENT --game Boxing --to DIR`.
Shapes: C steps of context, K tokens a frame.
"""

import importlib.util
import json
import logging
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from models.api import Agent, Context
from models.worlds import Graph, Portable
from pipelines.environments.actions import own_actions, to_shared
from pipelines.environments.registry import game_id
from pipelines.errors import UsageError
from pipelines.progress import Advance
from pipelines.store.artefact import Artefact
from pipelines.tools.exports.exported import differs
from pipelines.tools.exports.target import Origin

NEEDED = ("onnx", "onnxruntime", "onnxscript")

CHECKED = 100  # steps of a dream that must be the agent's own

CLOSE = 1e-3  # how far apart values and pictures may be

SLOWEST = 15.0  # agent steps/s of the game itself: what plays slower here plays slower still in a browser

TIMED = 5  # steps

OPSET = 20

SHARED = ("keys.js", "pictures.js", "play.css", "icon.svg")  # of the page of `worldline play`


@dataclass(frozen=True)
class Opening:
    """Real steps that a dream begins with: tokens (C, K), actions (C - 1,) between them, and where they are from."""

    tokens: NDArray[np.int64]
    actions: NDArray[np.int64]
    told: str

    def context(self, game: str) -> Context:
        """As a world model's `reset` takes it."""
        tokens, actions = torch.as_tensor(self.tokens)[None], torch.as_tensor(self.actions)[None]
        return Context(tokens, actions, torch.tensor([game_id(game)]))

    def flat(self) -> list[int]:
        """As the world model reads it: every frame's tokens, then the action, which the newest frame lacks."""
        rows = [[*frame, *self.actions[at : at + 1]] for at, frame in enumerate(self.tokens)]
        return [int(token) for row in rows for token in row]


@dataclass(frozen=True)
class BrowserFolder:
    """An `Export` of one agent. runtime: ONNX Runtime's files by name. lineage: the tree, as JSON knows it."""

    artefact: Artefact
    agent: Agent
    game: str
    openings: Sequence[Opening]
    runtime: Mapping[str, bytes]
    lineage: str
    name: str

    form: ClassVar[str] = "browser"
    unit: ClassVar[str] = "parts"

    @property
    def size(self) -> int:
        return 3

    @property
    def options(self) -> dict[str, Any]:
        return {"game": self.game}

    @property
    def counts(self) -> dict[str, int]:
        return {"graphs": 3, "beginnings": len(self.openings)}

    def write(self, path: Path, origin: Origin, advance: Advance) -> None:
        (path / "ort").mkdir(parents=True)
        for name, data in self.runtime.items():
            (path / "ort" / name).write_bytes(data)
        for folder, names in (("tools/exports/browser_page", ("index.html", "dream.js")), ("play/page", SHARED)):
            for name in names:
                with resources.as_file(resources.files("pipelines") / folder / name) as file:
                    shutil.copyfile(file, path / name)
        (path / "world.json").write_text(json.dumps(self._world() | {"origin": origin.record()}), encoding="utf-8")
        (path / "lineage.json").write_text(self.lineage, encoding="utf-8")
        assert isinstance(self.agent, Portable), "`require_portable` asks"
        for name, graph in self.agent.graphs(game_id(self.game)).items():
            write_graph(graph, path / f"{name}.onnx")
            advance(1)

    def read_back(self, path: Path, advance: Advance) -> None:
        played = OnnxDream(path, self.agent.window)  # type: ignore[attr-defined]
        dream = self.agent.dream(sample=False)
        opening = self.openings[0]
        actions = np.random.default_rng(0).choice(self._shared, CHECKED)
        with torch.inference_mode():
            here = dream.reset(opening.context(self.game))
            played.begin(opening)
            for number, action in enumerate(actions):
                here = dream.step(torch.tensor([action]))
                step = played.step(int(action))
                same = np.array_equal(step["observation"][0], here.tokens_NK[0].numpy())
                same &= float(step["reward"][0]) == float(here.rewards_N[0])
                same &= bool(step["end"][0]) == bool(here.ends_N[0])
                same &= bool(np.abs(step["q"][0] - here.values_NA[0].numpy()).max() < CLOSE)
                if not same:
                    raise differs(f"step {number} of a dream in ONNX Runtime")
            picture = self.agent.decode(here.tokens_NK)[0].float().numpy()
        if np.abs(played.picture(step["observation"]) - picture).max() > CLOSE:
            raise differs("a picture in ONNX Runtime")
        advance(self.size)

    @property
    def _shared(self) -> list[int]:
        """The environment's numbers of the game's own actions."""
        names = own_actions(self.game)
        return [int(each) for each in to_shared(self.game, np.arange(len(names)))]

    def _world(self) -> dict[str, Any]:
        channels, height, width = self.agent.decode(torch.tensor(self.openings[0].tokens[:1]))[0].shape
        return {
            "game": self.game,
            "actions": [list(pair) for pair in zip(own_actions(self.game), self._shared, strict=True)],
            "frame": [height, width, channels],
            "tokens": self.agent.tokens_per_frame,
            "window": self.agent.window,  # type: ignore[attr-defined]
            "beginnings": [{"told": each.told, "tokens": each.flat()} for each in self.openings],
        }


class OnnxDream:
    """The page's own steps, in ONNX Runtime's Python: what `dream.js` does, for checks."""

    def __init__(self, folder: Path, window: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._runs = {
            name: onnxruntime.InferenceSession(folder / f"{name}.onnx", options, ["CPUExecutionProvider"])
            for name in ("read", "step", "decode")
        }
        self._window = window

    def begin(self, opening: Opening) -> None:
        """Stand at the newest step of a beginning."""
        self._frames, self._actions = list(opening.tokens), list(opening.actions)
        self._keys, self._values = self._read()

    def step(self, action: int) -> dict[str, NDArray[Any]]:
        """One step further: observation (1, K), reward (1,), end (1,), q (1, A)."""
        if len(self._frames) == self._window:
            self._frames, self._actions = self._frames[1:], self._actions[1:]
            self._keys, self._values = self._read()
        names = ("observation", "reward", "end", "q", "keys", "values")
        given = {"action": np.array([action]), "past_keys": self._keys, "past_values": self._values}
        found = dict(zip(names, self._runs["step"].run(names, given), strict=True))
        self._keys, self._values = found["keys"], found["values"]
        self._frames.append(found["observation"][0])
        self._actions.append(action)
        return found

    def picture(self, observation: NDArray[np.int64]) -> NDArray[np.float32]:
        """(C, H, W) in [0, 1]."""
        (frame,) = self._runs["decode"].run(["frame"], {"observation": observation})
        return np.asarray(frame[0])

    def _read(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Keys and values of the steps that are remembered."""
        tokens = Opening(np.array(self._frames), np.array(self._actions), "").flat()
        given = {"tokens": np.array([tokens])}
        keys, values = self._runs["read"].run(("keys", "values"), given)
        return keys, values


def write_graph(graph: Graph, path: Path) -> None:
    """One graph as a file of its own."""
    shapes = {name: dict.fromkeys(graph.growing.get(name, ()), torch.export.Dim.DYNAMIC) for name in graph.inputs}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter about its own parts
        torch.onnx.export(
            graph.module,
            graph.example,
            path,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes={name: axes or None for name, axes in shapes.items()},
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )


def require_portable(agent: Agent, family: str) -> None:
    """Raises UsageError where a library is missing, or the agent's dream cannot be had as graphs."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise UsageError(f"A page needs {', '.join(missing)}, not installed here: pip install 'worldline[browser]'")
    if not isinstance(agent, Portable):
        raise UsageError(f"An agent of family '{family}' cannot dream in a browser yet: export one of JOWA's")


def require_fast(agent: Agent, opening: Opening, game: str) -> float:
    """Steps/s of its dream on one thread here. Raises UsageError where even these are fewer than SLOWEST."""
    threads = torch.get_num_threads()
    dream = agent.dream(sample=False)
    context = opening.context(game)
    action = torch.tensor([int(to_shared(game, [0])[0])])
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            dream.reset(context)
            dream.step(action)
            began = time.perf_counter()
            for _ in range(TIMED):
                dream.step(action)
            rate = TIMED / (time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
    if rate < SLOWEST:
        raise UsageError(
            f"Its dream plays {rate:.1f} steps/s on one core here, and slower in a browser, where the game has "
            f"{SLOWEST:g}: watch it with 'worldline play', or export a smaller network, of the demo's size"
        )
    return rate
