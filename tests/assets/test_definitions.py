"""The graph loads, from any directory, and its names stay: other tools and bookmarks rely on them."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg

from assets.definitions import defs
from pipelines.graph.table import NAMES, STAGES
from tests.fakes import ROOT

EPISODES = {"trajectories", "imported_trajectories"}
GRAPH = {
    "collected_replay": ("data", set()),
    "replay": ("data", {"collected_replay"}),
    "trajectories": ("data", {"replay"}),
    "imported_trajectories": ("data", set()),
    "segments": ("data", EPISODES),
    "imported_shards": ("data", set()),
    "videos": ("data", set()),
    "video_pretrained": ("learning", {"videos"}),
    "imported_world": ("learning", set()),
    "pretrained": ("learning", {"segments", "imported_shards", *EPISODES}),
    "tokens": ("learning", {"pretrained", *EPISODES}),
    "world_action_model": ("learning", {"pretrained", "tokens", "segments", "imported_shards", *EPISODES}),
    "imported": ("learning", set()),
    "finetuned": ("learning", {"world_action_model", "pretrained", "imported", *EPISODES}),
    "world_model_agent": (
        "learning",
        {
            "world_action_model",
            "pretrained",
            "imported",
            "finetuned",
            "video_pretrained",
            "imported_world",
            *EPISODES,
        },
    ),
    "tuned": ("evaluation", {"world_action_model", "pretrained", "imported", "finetuned", "world_model_agent"}),
    "scores": (
        "evaluation",
        {"world_action_model", "pretrained", "imported", "finetuned", "world_model_agent", "tuned", "collected_replay"},
    ),
    "recordings": (
        "evaluation",
        {"world_action_model", "pretrained", "imported", "finetuned", "world_model_agent", "scores", *EPISODES},
    ),
    "diagnosed": (
        "evaluation",
        {"world_action_model", "pretrained", "imported", "finetuned", "world_model_agent", *EPISODES},
    ),
    "leaderboard": ("evaluation", {"scores"}),
}
JOBS = {
    "collect", "fetch", "downsample", "import_trajectories", "index", "import_shards", "pretrain", "encode",
    "train", "practise", "import_weights", "finetune", "tune", "evaluate", "diagnose", "record", "report", "gather",
    "pretrain_videos", "import_world",
}  # fmt: skip
WHOLE = {"ingest": "data", "learn": "learning", "verify": None}  # those of no single stage, and the kind that they run
POOLS = {"replay": "network", **dict.fromkeys(("trajectories", "imported_trajectories", "videos"), "disk")}
POOLS |= dict.fromkeys(
    ("video_pretrained", "pretrained", "tokens", "world_action_model", "finetuned", "world_model_agent"), "gpu"
)


def test_definitions_are_loadable() -> None:
    dg.Definitions.validate_loadable(defs)


def test_assets_groups_and_edges_are_these() -> None:
    graph = defs.resolve_asset_graph()
    found = {
        key.to_user_string(): (
            graph.get(key).group_name,
            {parent.to_user_string() for parent in graph.get(key).parent_keys},
        )
        for key in graph.get_all_asset_keys()
    }
    assert found == GRAPH
    assert set(GRAPH) == set(NAMES), "every stage is an asset, every asset a stage"


def test_jobs_are_these_each_resolves_and_is_described() -> None:
    assert {job.name for job in defs.jobs or ()} == JOBS | WHOLE.keys()
    assert all(len(defs.resolve_job_def(name).description or "") > 40 for name in JOBS | WHOLE.keys())
    assert all(not defs.resolve_job_def(name).asset_layer.selected_asset_keys for name in WHOLE)
    selected = [defs.resolve_job_def(name).asset_layer.selected_asset_keys for name in JOBS]
    assert sorted(key.to_user_string() for keys in selected for key in keys) == sorted(GRAPH), "each stage has one"
    for job, kind in WHOLE.items():
        assert {row.name for row in STAGES if job in row.jobs} == {name for name in GRAPH if GRAPH[name][0] == kind}


def test_every_asset_is_described_versioned_checked_and_kinded() -> None:
    graph = defs.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert len(node.description or "") > 60, key
        assert node.code_version, key
        assert node.kinds, key
        assert node.pools == ({POOLS[name]} if (name := key.to_user_string()) in POOLS else set()), key
        assert "files_match_manifest" in {check.name for check in node.check_keys}, key


def test_workspace_file_is_what_the_command_line_loads(tmp_path: Path) -> None:
    home = tmp_path / "dagster"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate", "-w", str(ROOT / "workspace.yaml")],
        cwd=tmp_path,
        env={**os.environ, "DAGSTER_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "worldline" in said
