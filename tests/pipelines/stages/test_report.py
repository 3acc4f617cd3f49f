"""The leaderboard page from a hand-made graph in a real store: what it says, and what it survives."""

import base64
import csv
import hashlib
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pandas as pd
import pytest
from PIL import Image

from pipelines.errors import WorldlineError
from pipelines.plots import style
from pipelines.stages import report
from pipelines.stages.report import ReportConfig
from tests import fakes
from tests.pipelines.leaderboard import board

pytestmark = pytest.mark.usefixtures("undrawn")

NAME = "demo-1a2b3c4d"


class Reader(HTMLParser):
    """Text, image sources with alternative texts, and unbalanced tags of a page."""

    VOID = ("meta", "img", "br")

    def __init__(self, page):
        super().__init__()
        self.words, self.images, self.open, self.wrong = [], [], [], []
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)


@pytest.fixture(scope="module")
def made(tmp_path_factory, undrawn):
    """The two-game board and its report, with its figures; tests only read them."""
    graph = board.build(board.Store(tmp_path_factory.mktemp("board") / "store"))
    config = ReportConfig(scores=tuple(score.ref for score in graph.scores.values()), names=(NAME, NAME))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "save", undrawn)
        return graph, config, report.run(config, graph.store).artefact


def page_of(artefact):
    return artefact.path("index.html").read_text(encoding="utf-8")


def single(store, metrics, files=None, parents=(), name="other", config=None):
    """The page of one score with the given metrics and little else."""
    score = board.make(store, "scores", "Pong", parents, files, metrics=metrics, config=config or {"game": "Pong"})
    return report.run(ReportConfig(scores=(score.ref,), names=(name,)), store).artefact


def test_page_is_whole_and_needs_nothing_else(made):
    page = page_of(made[2])
    reader = Reader(page)
    assert reader.open == [] and reader.wrong == []
    assert page.count("<script") == 1 and not re.search(r"""(src|href|url)\s*[=(]\s*["']?(https?:|//|file:)""", page)
    assert len(reader.images) == 9  # aggregates, profiles, score plot, 2 videos, 2 sheets, curves, quality
    assert all(image["src"].startswith("data:image/") and len(image["alt"]) > 10 for image in reader.images)
    assert len(page) < 1_000_000


def test_result_with_references_and_limits(made):
    text = Reader(page_of(made[2])).text
    assert "20.25 95%: 19.88 to 20.75, 8 episodes, 1 training seed, protocol jowa" in text
    assert "102% of the way from random play" in text  # 20.25 / 19.8
    assert "66% of the way from random play" in text  # (44 - 0.5) / (66 - 0.5)
    assert "limited: 2 episodes instead of 8; 2 of 2 cut after 500 steps" in text
    assert "width 2, horizon 3" in text
    assert "Not comparable with the table above: 2 episodes a game against 8." in text
    assert "not ranked: limited" in text and "not ranked: nothing to compare with" in text
    assert "other games (15 against 2, none in common)" in text
    assert "JOWA 150M, beam published 1 to 2 0.847 0.790 to 0.908" in text
    assert "DQN-Replay's" in text


def test_published_agents_stand_in_a_table_of_their_own(made):
    page = page_of(made[2])
    ranking, _, rest = page.partition('<h2 id="published">')
    table = rest.partition('<h2 id="games">')[0]
    text = Reader(table).text
    assert "STORM published no: Mean HNS 1.267 published, 1.222 recomputed; Median HNS 0.584 published, 0.425" in text
    assert "no: IQM HNS 0.789 published, 0.847 recomputed" in text and "REM published yes 1.222" in text
    assert "BBF published no raw seeds printed 2.245 printed 0.917 not printed" in text
    assert "STORM" not in ranking and "Atari 100k: online, 100,000 agent steps" in text
    for name in ("published.csv", "references.csv"):
        assert name in text and len(made[2].path(name).read_text().splitlines()) > 20


def test_a_limited_evaluation_has_a_card_only_where_no_whole_one_stands(store):
    def scored(returns, ended, **config):
        metrics = {"greedy": board.summary(returns), "random": board.summary([0.0])}

        def files(draft):
            board.episodes("greedy", returns, ended).to_parquet(draft.path("episodes.parquet"))

        return board.make(store, "scores", "Pong", (), files, metrics=metrics, config={"game": "Pong"} | config).ref

    def cards(*scores):
        made = report.run(ReportConfig(scores=scores, names=("demo",) * len(scores)), store).artefact
        return re.findall(r"<article.*?</article>", page_of(made), re.DOTALL)

    cut, whole = scored([0, 0], "limit", max_steps=12), scored([7, 8], "terminated", max_steps=0)
    (card,) = cards(cut, whole)
    assert "7.5" in card and "limited" not in card
    (card,) = cards(cut)
    assert "limited: 2 of 2 cut after 12 steps" in card


@pytest.mark.parametrize(
    ("root", "share"),
    [({"sticky": 0.25}, "0.5"), ({"sticky": 0.0}, ""), pytest.param({"noop_max": 30}, "", marks=pytest.mark.slow)],
)
def test_a_share_stands_only_beside_play_by_the_same_rules(store, root, share):
    played = {"game": "Pong", "rom_md5": "60e0"}
    collected = board.make(store, "collected_replay", "Pong", roots=[played | {"sticky": 0.25}])
    metrics = {"greedy": board.summary([5.0]), "random": board.summary([0.0]), "behaviour": {"mean": 10.0}}
    score = board.make(store, "scores", "Pong", (collected.ref,), metrics=metrics, roots=[played | root])
    made = report.run(ReportConfig(scores=(score.ref,), names=("demo",)), store).artefact
    with made.path("leaderboard.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert (row["behaviour_mean"], row["share"]) == ("10.0", share)


def test_csv_has_a_row_per_planner_with_full_numbers(made):
    with made[2].path("leaderboard.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 + 13 * 15 and {row["kind"] for row in rows[4:]} == {"published"}
    assert [(row["game"], row["planner"]) for row in rows[:4]] == [
        ("Freeway", "greedy"),
        ("Freeway", "beam"),
        ("Boxing", "greedy"),
        ("Boxing", "beam"),
    ]
    first = rows[0]
    assert first["agent"] == first["experiments"] == NAME and first["protocol"] == "jowa" and first["episodes"] == "8"
    assert float(first["mean"]) == 20.25 and float(first["behaviour_mean"]) == 19.8
    assert float(first["hns"]) == pytest.approx(20.25 / 29.6)  # Freeway: random 0, human 29.6
    assert float(first["share"]) == pytest.approx(20.25 / 19.8)
    assert float(first["low"]) < 20.25 < float(first["high"]) and first["seeds"] == "1"
    assert first["limits"] == "" and first["sources"] == str(made[0].scores["Freeway"].ref)


def test_sight_losses_data_and_cost(made):
    graph, _, artefact = made
    text = Reader(page_of(artefact)).text
    assert "sees: beats the mean frame and copying the last frame" in text
    assert "blind: no better than copying the last frame" in text
    assert "0.012 vs 0.048" in text and "38.5" in text and "2.1%" in text
    assert "reconstruction 0.0123" in text
    assert "12 episodes, 24,000 frames" in text and "0.6, 4.8, 10.2, 15.9, 19.8" in text
    assert "8e0ab801b1705a740b476b7f588c6d16" in text
    assert text.count(str(graph.pretrained.ref)) >= 3  # training, cost, lineage
    assert "12 artefacts" in text  # 2 collections, 4 replays, 2 trajectories, 2 trainings, 2 scores
    check = artefact.manifest.checks[0]
    assert check.name == "agents_see" and not check.passed and not check.blocking and "Freeway" in check.detail


def test_a_row_leads_to_its_lineage_and_to_what_it_was_made_from(made):
    page = page_of(made[2])
    links, places = set(re.findall(r'href="#(lineage-\d)"', page)), set(re.findall(r'id="(lineage-\d)"', page))
    assert links == places == {"lineage-0", "lineage-1"}
    assert len(re.findall(r"<code>worldline play \S+ --game [A-Z]\w+</code>", page)) == 2
    with made[2].path("origins.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    behind = json.loads(made[2].path("leaderboard.json").read_text())["origins"]
    assert set(behind) == {str(score.ref) for score in made[0].scores.values()}
    assert {row["artefact"] for row in rows} == {artefact for artefacts in behind.values() for artefact in artefacts}
    assert {row["rom_md5"] for row in rows} >= set(board.ROMS.values())


def test_the_page_s_policy_lets_its_own_script_run_and_nothing_else(made):
    page = page_of(made[2])
    script = page.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert (
        f"default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
        in page
    )


def test_many_replay_objects_are_listed_beside_the_page(store):
    roots = [
        {"url": f"gs://bucket/dqn/Pong/1/{n}.gz", "bytes": n, "crc32c": "AAAAAA==", "version": "1"} for n in range(50)
    ]
    replay = board.make(store, "replay", "Pong/1", roots=roots)
    artefact = single(store, {"greedy": board.summary([1.0])}, parents=(replay.ref,))
    text = Reader(page_of(artefact)).text
    assert "The first 40 of 50" in text and "gs://bucket/dqn/Pong/1/39.gz" in text
    assert artefact.path("origins.csv").read_text().count("gs://") == 50


def test_plots_are_small(made):
    for name in ("scores.png", "quality.png", "aggregates.png", "profiles.png"):
        with Image.open(made[2].path(name)) as image:
            assert image.format == "PNG"
        assert made[2].path(name).stat().st_size < 150_000


def test_second_run_skips_and_another_name_does_not(made):
    graph, config, artefact = made
    assert report.run(config, graph.store).skipped
    other = ReportConfig(scores=config.scores, names=(NAME, "renamed"))
    assert report.run(other, graph.store).artefact.ref != artefact.ref


def test_the_same_scores_give_the_same_bytes(made, tmp_path, undrawn, monkeypatch):
    monkeypatch.setattr(style, "save", undrawn)
    graph, config, artefact = made
    copy = board.Store(tmp_path / "copy")
    shutil.copytree(graph.store.root, copy.root, ignore=shutil.ignore_patterns("leaderboard"))
    again = report.run(config, copy)
    assert not again.skipped and again.artefact.manifest.files == artefact.manifest.files


def test_a_bare_score_is_shown_as_not_measured(store):
    artefact = single(store, {"policy": {"mean": 3.5}})
    text = Reader(page_of(artefact)).text
    assert "3.5" in text and "not measured" in text and "not in the store" in text
    assert "quality.png" not in artefact.names()
    assert [check.passed for check in artefact.manifest.checks] == [True]


def test_a_game_without_reference_scores(store):
    score = board.make(store, "scores", "AirRaid", metrics={"greedy": board.summary([100.0, 200.0])})
    text = Reader(page_of(report.run(ReportConfig(scores=(score.ref,), names=("a",)), store).artefact)).text
    assert "no reference" in text and "No behaviour reference" in text


def test_hostile_names_are_escaped(store):
    root = {"game": "<img src=x onerror=alert(1)>", "policy": "<script>alert(1)</script>"}
    collected = board.make(store, "collected_replay", "Pong", roots=[root])
    replay = board.make(store, "replay", "Pong/1", (collected.ref,))
    trajectories = board.make(store, "trajectories", "Pong", (replay.ref,))
    page = page_of(
        single(
            store,
            {"<b>bold</b>": {"mean": 1.0}},
            parents=(trajectories.ref,),
            name="<script>x</script>",
            config={"protocol": "<i>p</i>"},
        )
    )
    assert (
        page.count("<script") == 1
        and "<script>alert" not in page
        and "<b>" not in page
        and "<i>p" not in page
        and "<img src=x" not in page
    )
    assert "&lt;script&gt;alert(1)" in page


def test_two_experiments_stand_side_by_side(store):
    scores = tuple(
        board.make(store, "scores", "Pong", metrics={"greedy": board.summary([mean, mean])}, config={"n": mean}).ref
        for mean in (1.0, 2.0)
    )
    artefact = report.run(ReportConfig(scores=scores, names=("first", "second")), store).artefact
    assert artefact.manifest.counts == {"scores": 2, "games": 1, "experiments": 2}
    assert artefact.manifest.metrics["mean_return"] == {"first/Pong/greedy": 1.0, "second/Pong/greedy": 2.0}


def test_pooled_evaluations_and_training_seeds_are_counted_on_the_page(store):
    def trained(seed):
        return board.make(store, "world_action_model", "demo", config={"seed": seed}).ref

    def score(checkpoint, seed):
        returns = [float(10 * seed + episode) for episode in range(4)]

        def write(draft):
            table = board.episodes("greedy", returns, "terminated")
            table["seed"] += 100 * seed
            table.to_parquet(draft.path("episodes.parquet"))

        metrics = {"greedy": board.summary(returns)}
        return board.make(store, "scores", "Pong", (checkpoint,), write, config={"seed": seed}, metrics=metrics)

    scores = [score(trained(0), 0), score(trained(0), 1), score(trained(1), 2)]
    config = ReportConfig(scores=tuple(each.ref for each in scores), names=("a-0", "a-0", "b-1"))
    artefact = report.run(config, store).artefact
    text = Reader(page_of(artefact)).text
    assert "12 episodes of 3 evaluations, 2 training seeds" in text
    assert "a-0 + b-1 is one agent, trained from several seeds and otherwise alike: a-0, b-1." in text
    assert "Pooled with 1 earlier evaluation of the same checkpoint" in text
    with artefact.path("leaderboard.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert (row["seeds"], row["evaluations"], row["episodes"]) == ("2", "3", "12")
    assert float(row["mean"]) == (6.5 + 21.5) / 2, "training seeds weigh equally, however often they were evaluated"
    assert row["sources"].split("; ")[2] == str(scores[2].ref) and row["experiments"] == "a-0; b-1"
    with artefact.path("aggregates.csv").open(newline="") as file:
        standing = next(csv.DictReader(file))
    assert (standing["fewest_seeds"], standing["most_episodes"], standing["human_iqm"] != "") == ("2", "12", True)
    assert (
        "| no: nothing to compare with | a-0 + b-1, greedy | ours | 1 | 2 | 12 |"
        in artefact.path("leaderboard.md").read_text()
    )


def test_an_ancestor_that_was_deleted_is_named(store):
    parent = board.make(store, "world_action_model", "demo", metrics={"losses": {"q": 1.0}})
    score = board.make(store, "scores", "Pong", (parent.ref,), metrics={"greedy": board.summary([1.0])})
    (parent.folder / "manifest.json").unlink()
    text = Reader(page_of(report.run(ReportConfig(scores=(score.ref,), names=("a",)), store).artefact)).text
    assert f"{parent.ref}: missing" in text


def test_a_score_that_is_damaged_or_empty_is_refused(store):
    score = board.make(store, "scores", "Pong", metrics={"greedy": board.summary([1.0])})
    fakes.flip_byte(score.folder / "note.txt")
    with pytest.raises(WorldlineError, match="damaged"):
        report.run(ReportConfig(scores=(score.ref,), names=("a",)), store)
    with pytest.raises(WorldlineError, match="no planner's result"):
        single(store, {"random": {"mean": 1.0}})
    assert not (store.root / "leaderboard").exists()


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: path.write_bytes(b"PAR1 no"), "no readable Parquet"),
        (lambda path: pd.DataFrame({"planner": ["greedy"], "ended": ["limit"]}).to_parquet(path), "column 'return'"),
        (lambda path: board.episodes("greedy", [float("nan")], "limit").to_parquet(path), "no finite return"),
    ],
)
def test_unreadable_episodes_are_named(store, write, words):
    with pytest.raises(WorldlineError, match=words):
        single(store, {"greedy": {"mean": 1.0}}, lambda draft: write(draft.path("episodes.parquet")))


def test_episodes_as_lines_of_json(store):
    def write(draft):
        board.episodes("greedy", [1.0, 3.0], "terminated").to_json(
            draft.path("episodes.jsonl"), orient="records", lines=True
        )

    with single(store, {"greedy": board.summary([1.0, 3.0])}, write).path("leaderboard.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert (first["low"], first["high"], first["unranked"]) == ("1.0", "3.0", "fewer than 8 episodes")
    with pytest.raises(WorldlineError, match="no readable table of JSON lines"):
        torn = {"greedy": {"mean": 1.0}}
        single(store, torn, lambda draft: draft.path("episodes.jsonl").write_text("{no"), config={"seed": 1})


def test_the_stage_imports_neither_torch_nor_dagster():
    heavy = "{'torch', 'dagster', 'matplotlib.pyplot'}"
    program = f"import sys, pipelines.stages.report; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=fakes.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
