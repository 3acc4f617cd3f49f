"""What is due, fresh seeds that meet no old ones, and names that the collector keeps."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.environments.registry import emulator_seeds
from pipelines.errors import UsageError
from pipelines.evaluation.pool import pools
from pipelines.graph import rounds as reevaluation
from pipelines.graph.experiment import Experiment, register
from pipelines.graph.plan import Plan, Step
from pipelines.graph.rounds import asked, due, evaluations, fresh_seed, look, suite, this_round
from pipelines.recipes.jowa import finetuned
from pipelines.recipes.registry import recipe
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.import_weights import ReleasedConfig
from pipelines.store import gc
from pipelines.store.store import Store
from tests.pipelines.conftest import TinyRun
from tests.pipelines.evaluation.evaluations import checkpoint, scores

LITTLE = ("evaluate.episodes=1", "evaluate.random_episodes=1", "evaluate.beam_episodes=0", "evaluate.max_steps=3")


def test_a_round_is_named_after_the_iso_week_in_utc() -> None:
    assert this_round(datetime(2026, 11, 22, 22, tzinfo=UTC)) == "2026-W47"
    assert this_round(datetime(2027, 1, 3, 22, tzinfo=UTC)) == "2026-W53", "the week's year, not the day's"
    assert this_round(datetime(2026, 11, 23, 1, tzinfo=timezone(timedelta(hours=9)))) == "2026-W47"


def test_a_round_is_played_once_pooled_compared_and_kept(tiny_copy: TinyRun) -> None:
    run = tiny_copy
    [due_now] = due([run.experiment], run.store, "2026-W47")
    assert (due_now.game, due_now.checkpoint) == ("Breakout", run.made["world_action_model"].ref)
    assert due([run.experiment], run.store) == [], "its own scores stand"
    one = asked(run.plan, run.experiment, "Breakout", run.store, "2026-W47")
    made = one.make(run.store)
    assert one.name == f"scores/{run.experiment.key}/Breakout/2026-W47"
    assert due([run.experiment], run.store, "2026-W47") == []
    again = asked(run.plan, run.experiment, "Breakout", run.store, "2026-W47").make(run.store)
    assert again.skipped and again.artefact.ref == made.artefact.ref
    pool, beam = pools(evaluations(run.store, "Breakout"))
    assert (pool.planner, beam.planner) == ("greedy", "beam") and beam.members == pool.members
    assert {member.ref for member in pool.members} == {run.made["scores"].ref, made.artefact.ref}
    assert len(pool.returns("greedy")) == 4 and pool.episodes.duplicated(["planner", "seed"]).sum() == 0
    assert "greedy" in str(look(made.artefact, run.store))
    assert made.artefact.ref not in {found.ref for found in gc.plan(run.store)}
    assert run.store.resolve(f"scores/{run.experiment.key}/Breakout") == run.made["scores"].ref


def test_a_round_under_other_settings_has_a_name_of_its_own(tiny: TinyRun) -> None:
    own = asked(tiny.plan, tiny.experiment, "Breakout", tiny.store)
    assert (own.config, own.name) == (
        tiny.plan.config(Step("scores", "Breakout")),
        f"scores/{tiny.experiment.key}/Breakout",
    )
    other = asked(tiny.plan, tiny.experiment, "Breakout", tiny.store, "extra", LITTLE)
    assert other.name == f"scores/{tiny.experiment.key}/Breakout/extra/greedy-{other.config.spec().key[:8]}"
    assert other.config.max_steps == 3 and other.config.seed != own.config.seed
    same = asked(tiny.plan, tiny.experiment, "Breakout", tiny.store, "extra", ["evaluate.envs=1"])
    assert same.name.endswith("/Breakout/extra"), "how many play at once is no other setting"


@pytest.mark.parametrize(
    ("game", "round", "changes", "said"),
    [
        ("Pong", "", [], "does not play 'Pong': it plays Breakout"),
        ("Breakout", "../../x", [], "cannot name part of an artefact"),
        ("Breakout", "a b", [], "cannot name part of an artefact"),
        ("Breakout", "", ["train.seed=3"], "would change more than how the checkpoint plays"),
        ("Breakout", "", ["evaluate.episodes=0"], "episodes 0 is impossible"),
        ("Breakout", "", ["evaluate.context=99"], "evaluate.context is 99"),
    ],
)
def test_what_cannot_be_asked(tiny: TinyRun, game: str, round: str, changes: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        asked(tiny.plan, tiny.experiment, game, tiny.store, round, changes)


def test_who_plays_is_read_from_pointers(store: Store, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("experiments")
    base = register(folder, "base", recipe("mini", ["games=Pong,Boxing"]))
    expert = register(folder, "expert", finetuned(base.recipe, "Freeway"))
    made = checkpoint(store).ref
    assert suite([base, expert], store) == []
    store.point(f"world_action_model/{base.key}", made)
    store.point(f"world_action_model/{expert.key}", made)
    assert [(each.experiment.name, each.game) for each in suite([base, expert], store)] == [
        ("base", "Pong"),
        ("base", "Boxing"),
    ], "the other experiment's checkpoint is the one after fine-tuning"
    store.point(f"finetuned/{expert.key}/Freeway", made)
    assert [each.game for each in suite([base, expert], store)] == ["Pong", "Boxing", "Freeway"]
    store.point(f"scores/{base.key}/Pong", scores(store, 0, {"greedy": [1.0]}, game="Pong").ref)
    assert [each.game for each in due([base, expert], store)] == ["Boxing", "Freeway"]
    store.point(f"world_action_model/{base.key}", checkpoint(store, trained="again").ref)
    assert [each.game for each in due([base, expert], store)] == ["Pong", "Boxing", "Freeway"], "scores of another"
    store.point(f"finetuned/{expert.key}/Freeway", replace(made, key="0" * 16))
    assert [each.game for each in suite([base, expert], store)] == ["Pong", "Boxing"], "the store lost it"


def test_a_recipe_that_imports_plays_what_was_imported(store: Store) -> None:
    released = recipe("mini").but(
        pretrain=None, tokenize=None, train=None, released=ReleasedConfig("0" * 64, "1" * 64, "t.pt", "m.pt")
    )
    experiment = Experiment("theirs", released)
    store.point(f"imported/{experiment.key}", checkpoint(store).ref)
    assert [each.game for each in suite([experiment], store)] == ["Pong"]


@given(st.text(st.characters(codec="utf-8"), max_size=12), st.integers(1, 40))
def test_the_seed_follows_from_the_rounds_name(round: str, episodes: int) -> None:
    config = replace(Plan(recipe("mini")).config(Step("scores", "Pong")), episodes=episodes)
    seed = fresh_seed(config, round, [])
    assert seed == fresh_seed(config, round, []) != config.seed
    assert seed != fresh_seed(config, round + "x", [])


def test_a_seed_whose_emulators_were_played_before_is_passed_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_now = EvaluateConfig(game="Freeway", agent=checkpoint(store).ref, episodes=4)
    others = [scores(store, 7, {"greedy": [1.0]}, episodes=4)]
    # Seeds 7 and 8 stand for a chance of one in millions: that a name's seed gives an emulator's of an earlier round.
    monkeypatch.setattr(reevaluation, "_seeds", lambda name: iter((8, 9)))
    monkeypatch.setattr(
        reevaluation, "emulator_seeds", lambda seed, count: emulator_seeds(7 if seed == 8 else seed, count)
    )
    assert fresh_seed(asked_now, "any", others) == 9
    others.append(scores(store, 9, {"greedy": [1.0]}, episodes=4))
    assert fresh_seed(asked_now, "any", others) == 9, "the round that stands is found again"
    assert fresh_seed(replace(asked_now, context=1), "any", others) == 8, "who asks something else shares no pool"
