"""The table of stages: the whole graph as data. A new stage is a file in `pipelines/stages/` and a row here.

From a row follow the plan's order, partitions, parents of the asset, its job, the module that is imported on use, and
the names in help and errors. A config says what it reads (`store.stage_config.parent`); the row says what it is.
"""

from dataclasses import dataclass
from typing import Literal

from pipelines.errors import unknown
from pipelines.stages.collect import CollectConfig
from pipelines.stages.diagnose import DiagnoseConfig
from pipelines.stages.downsample import DownsampleConfig
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.fetch import FetchConfig
from pipelines.stages.import_trajectories import ImportConfig, ShardsConfig
from pipelines.stages.import_weights import ReleasedConfig, ReleasedWorldConfig
from pipelines.stages.learn import LearnConfig
from pipelines.stages.pretrain_videos import PretrainVideosConfig
from pipelines.stages.record import RecordConfig
from pipelines.stages.report import ReportConfig
from pipelines.stages.segment import SegmentConfig
from pipelines.stages.tokenize import TokenizeConfig
from pipelines.stages.train import FinetuneConfig, PretrainConfig, TrainConfig
from pipelines.stages.tune import TuneConfig
from pipelines.stages.videos import VideosConfig
from pipelines.store.stage_config import StageConfig

Per = Literal["", "game", "game agent", "experiment", "experiment game"]
Kind = Literal["data", "learning", "evaluation"]
Pool = Literal["", "gpu", "network", "disk"]
GPU: Pool = "gpu"
WHOLE: dict[Kind, str] = {"data": "ingest", "learning": "learn"}  # the jobs of all stages of a kind


@dataclass(frozen=True)
class Stage:
    """One row.

    per: what its artefacts are of, which are its partitions. makes: "agent" where it makes a checkpoint,
    "trajectories" where it makes whole episodes, "videos" where it makes what has no actions, "world" where it makes a
    world model of these. pool: of Dagster, where
    only so many may run at a time. trains: it runs in a process of its own, on many ranks. source: only recipes whose
    data come from there, or from one of these, have it. kinds and about: what Dagster's UI shows. job: its own job's
    name, where it is not the verb.
    """

    config: type[StageConfig]
    per: Per
    kind: Kind
    kinds: tuple[str, ...]
    about: str
    makes: str = ""
    pool: Pool = ""
    trains: bool = False
    source: str = ""
    job: str = ""

    @property
    def name(self) -> str:
        """The stage's name: of its asset, and of its folder in the store."""
        return self.config.STAGE

    @property
    def verb(self) -> str:
        """Its name in recipes and overrides."""
        return self.config.VERB

    @property
    def jobs(self) -> tuple[str, ...]:
        """The jobs that run it: first its own, then the one of its whole kind where there is one."""
        return (self.job or self.verb, *([WHOLE[self.kind]] if self.kind in WHOLE else []))

    @property
    def module(self) -> str:
        """Where `run(config, store)` is."""
        return self.config.__module__

    @property
    def per_game(self) -> bool:
        """Whether there is one artefact a game."""
        return "game" in self.per.split()


STAGES: tuple[Stage, ...] = (
    Stage(
        CollectConfig,
        per="game",
        kind="data",
        kinds=("atari", "numpy"),
        source="collected",
        about="""Replay of one game, played here by a script that explores less and less.

It is a local bucket in DQN-Replay's own file layout, so everything downstream reads it as it reads the real one.""",
    ),
    Stage(
        FetchConfig,
        per="game agent",
        kind="data",
        kinds=("numpy", "parquet"),
        pool="network",
        source="collected bucket",
        about="""What one agent's logs hold: files with checksums, actions, rewards, ends, and the stitched episodes.

Read from a collected replay or from the bucket of the storage profile; frames stay where they are.""",
    ),
    Stage(
        DownsampleConfig,
        per="game",
        kind="data",
        kinds=("hdf5",),
        makes="trajectories",
        pool="disk",
        source="collected bucket",
        about="Whole episodes drawn from all replays of a game, frames included, losslessly packed into one HDF5 file.",
    ),
    Stage(
        ImportConfig,
        per="game",
        kind="data",
        kinds=("hdf5",),
        makes="trajectories",
        pool="disk",
        source="imported",
        job="import_trajectories",
        about="""Whole episodes of a game from an export or from JOWA's own files, in place of drawn ones.

The manifest's roots name the files by their sha256. Only recipes with source=imported have this.""",
    ),
    Stage(
        SegmentConfig,
        per="game",
        kind="data",
        kinds=("parquet",),
        source="collected bucket imported",
        job="index",
        about="The index of a game's training windows over its trajectories: episode, first and last step, padding.",
    ),
    Stage(
        ShardsConfig,
        per="game",
        kind="data",
        kinds=("json",),
        source="shards",
        job="import_shards",
        about="""The list of a webdataset export's shards, which hold a game's segments, in place of trajectories.

It pins every shard by its sha256; training streams them from where they lie, a folder or a bucket. Only recipes with
source=shards have this.""",
    ),
    Stage(
        VideosConfig,
        per="experiment",
        kind="data",
        kinds=("hdf5",),
        makes="videos",
        pool="disk",
        job="gather",
        about="""Videos without actions or rewards, in one HDF5 file: what a world model can learn from before any play.

The manifest's roots say where they come from. Experiments with equal settings share them. Only recipes with a `videos`
template have this.""",
    ),
    Stage(
        PretrainVideosConfig,
        per="experiment",
        kind="learning",
        kinds=("torch", "safetensors"),
        makes="world",
        pool=GPU,
        trains=True,
        about="""A world model that learned videos, in which nobody says what was done, for agents to go on from.

The check `sees` compares what it foresees of held-out videos with a copy of the last frame. Only recipes with a
`pretrain_videos` template have this.""",
    ),
    Stage(
        ReleasedWorldConfig,
        per="experiment",
        kind="learning",
        kinds=("torch", "safetensors"),
        makes="world",
        job="import_world",
        about="""A world that others trained on videos, in place of an experiment's own, brought in from files.

The manifest's roots name the files by their sha256. Only experiments that import one have this.""",
    ),
    Stage(
        PretrainConfig,
        per="experiment",
        kind="learning",
        kinds=("torch", "safetensors"),
        makes="agent",
        pool=GPU,
        trains=True,
        about="""Stage 1 of an experiment: the agent's networks, learned from the frames of all its games.

The check `sees` compares them with what a blind model reaches on the pixels that change.""",
    ),
    Stage(
        TokenizeConfig,
        per="experiment game",
        kind="learning",
        kinds=("torch", "zarr"),
        pool=GPU,
        source="collected bucket imported",
        job="encode",
        about="Every frame of a game's trajectories as tokens of the experiment's frozen tokenizer.",
    ),
    Stage(
        TrainConfig,
        per="experiment",
        kind="learning",
        kinds=("torch", "safetensors"),
        makes="agent",
        pool=GPU,
        trains=True,
        about="""Stage 2 of an experiment: the checkpoint that plays, trained on tokens to predict and to value actions.

Trajectories are read only to measure the next-frame error on held-out frames.""",
    ),
    Stage(
        ReleasedConfig,
        per="experiment",
        kind="learning",
        kinds=("torch", "safetensors"),
        makes="agent",
        job="import_weights",
        about="""A released checkpoint in place of an experiment's training, brought in from files.

The manifest's roots name the files by their sha256. Only experiments that import have this.""",
    ),
    Stage(
        FinetuneConfig,
        per="experiment game",
        kind="learning",
        kinds=("torch", "safetensors"),
        makes="agent",
        pool=GPU,
        trains=True,
        about="""An experiment's checkpoint after it learned on from the best few episodes of one game.

Only experiments that `worldline finetune` registered have this, each for its own game.""",
    ),
    Stage(
        LearnConfig,
        per="experiment game",
        kind="learning",
        kinds=("torch", "safetensors", "atari"),
        makes="agent",
        pool=GPU,
        trains=True,
        job="practise",
        about="""An agent that plays a game, learns a world model of what it saw, and practises inside it, in rounds.

What it played stands beside its networks as trajectories. Without play it learns from the game's trajectories.""",
    ),
    Stage(
        TuneConfig,
        per="experiment game",
        kind="evaluation",
        kinds=("atari", "torch"),
        about="""Which context, width, horizon and leaf value an experiment's planner plays a game best with.

Every setting plays the same episodes, none of which is ever reported. Only experiments whose recipe has a `tune` to
search over have this.""",
    ),
    Stage(
        EvaluateConfig,
        per="experiment game",
        kind="evaluation",
        kinds=("atari", "torch"),
        about="""Returns of an experiment's checkpoint on one game, next to random play under the same protocol.

Where the replay was collected here, the returns of the behaviour that made it stand beside them. A round plays with
fresh seeds; the check `no_drift` holds it against the rounds before.""",
    ),
    Stage(
        DiagnoseConfig,
        per="experiment game",
        kind="evaluation",
        kinds=("atari", "torch", "html"),
        about="""Which of planner, world model and values fails where an experiment's agent searches one game badly.

Every action is tried in imagination and in the emulator. Only experiments whose recipe has a `diagnose`, or which
`worldline diagnose` looked at, have this.""",
    ),
    Stage(
        RecordConfig,
        per="experiment game",
        kind="evaluation",
        kinds=("atari", "torch", "mp4"),
        about="""What was played or dreamt and kept: a film, all pictures, actions, rewards and what the header said.

Only experiments whose recipe has a `record`, or which `worldline play` recorded, have this.""",
    ),
    Stage(
        ReportConfig,
        per="",
        kind="evaluation",
        kinds=("html",),
        job="report",
        about="One self-contained HTML page of all scores: tables, learning curves, reconstruction sheets, lineage.",
    ),
)
BOARD = STAGES[-1].name
NAMES = tuple(stage.name for stage in STAGES)
PLANNED = tuple(stage for stage in STAGES if stage.per)  # the leaderboard is of no experiment
DATA_STAGES = tuple(stage.name for stage in STAGES if stage.kind == "data")
BY_VERB = {stage.verb: stage for stage in PLANNED}
_BY_NAME = {stage.name: stage for stage in STAGES}


def stage(name: str) -> Stage:
    """The row of that name. Raises UsageError with the nearest name."""
    if name not in _BY_NAME:
        raise unknown("stage", name, NAMES, "'worldline materialize --help' explains them")
    return _BY_NAME[name]


def before(name: str, makes: str) -> tuple[str, ...]:
    """The stages before `name` that make such a thing, the nearest first."""
    rows = STAGES[: NAMES.index(name)]
    return tuple(row.name for row in reversed(rows) if row.makes == makes)
