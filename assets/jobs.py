"""Jobs: the stretches of the graph whose assets share one partitions definition, as a job must.

In the order in which they are run; the names are the verbs of the command line. Selections are objects because
Dagster parses strings with antlr, which another package in the environment can break.
"""

import dagster as dg

from assets.data import collected_replay, replay, segments, trajectories
from assets.evaluation import leaderboard, scores, tuned
from assets.learning import finetuned, imported, pretrained, tokens, world_action_model

_ASSETS = {
    "collect": ([collected_replay], "Play a game and log its replay."),
    "fetch": ([replay], "Read one agent's logs of a game."),
    "downsample": ([trajectories, segments], "Draw a game's episodes and index their training windows."),
    "pretrain": ([pretrained], "Stage 1 of an experiment."),
    "tokenize": ([tokens], "Encode a game with an experiment's tokenizer."),
    "train": ([world_action_model], "Stage 2 of an experiment."),
    "import_jowa": ([imported], "Bring a released checkpoint into an experiment."),
    "finetune": ([finetuned], "Let a checkpoint learn on from one game's best episodes."),
    "tune": ([tuned], "Search for the settings that a planner plays a game best with."),
    "evaluate": ([scores], "Play a game with an experiment's checkpoint."),
    "board": ([leaderboard], "Compare all scores on one page."),
}

JOBS = {
    name: dg.define_asset_job(name, selection=dg.AssetSelection.assets(*members), description=description)
    for name, (members, description) in _ASSETS.items()
}
