"""The named fine-tunings: each shares its base's training, names one game, and imagines where its name says so."""

import pytest

from pipelines.graph.plan import Plan, Step
from pipelines.recipes.registry import recipe
from pipelines.training.schedule import ImagineConfig

BUCKET = "file:///bucket"
TRAINED = [Step("pretrained"), Step("world_action_model")]


@pytest.mark.parametrize("size", ["40m", "70m", "150m"])
def test_it_starts_from_the_base_s_own_checkpoint(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plan, "listed", lambda *_: {"url": BUCKET, "listing": "digest"})
    base, tuned, imagined = (Plan(recipe(f"jowa_{size}{kind}"), BUCKET) for kind in ("", "_finetune", "_imagined"))
    for step in TRAINED:
        assert base.config(step).spec().ref == tuned.config(step).spec().ref == imagined.config(step).spec().ref
    assert tuned.games("scores") == ("Pong",) and "Pong" not in tuned.games("segments")
    step = Step("finetuned", "Pong")
    plain, dreamt = tuned.config(step), imagined.config(step)
    assert plain.imagine is None and dreamt.imagine == ImagineConfig()
    assert plain.agent == dreamt.agent == base.config(Step("world_action_model")).spec().ref
    assert plain.spec().ref.key != dreamt.spec().ref.key


def test_another_game_and_other_numbers_by_override() -> None:
    found = recipe("jowa_150m_imagined", ["finetune.game=Gravitar", "finetune.imagine.after=10", "finetune.episodes=2"])
    assert found.finetune is not None and found.finetune.imagine is not None
    assert (found.finetune.game, found.finetune.episodes, found.finetune.imagine.after) == ("Gravitar", 2, 10)
    assert Plan(found, BUCKET).games("finetuned") == ("Gravitar",)
