"""Options say what they stand for when left out, and name fields as `--set` takes them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from rich.markup import render

from pipelines.cli import app, run
from pipelines.commands.options import chosen_games
from pipelines.environments.atari.reference_scores import claims
from pipelines.environments.registry import GAMES
from pipelines.errors import UsageError
from pipelines.graph.config_io import override
from pipelines.graph.experiment import registered
from pipelines.graph.table import BY_VERB, STAGES
from pipelines.recipes.iris import iris
from pipelines.recipes.jowa import jowa_40m_imagined
from pipelines.stages.diagnose import DiagnoseConfig
from pipelines.stages.record import RecordConfig
from pipelines.stages.videos import VideosConfig


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


COMMANDS = list(commands(typer.main.get_command(app)))


def test_every_option_shows_what_it_is_when_left_out() -> None:
    silent = [
        (" ".join(path), option.name)
        for path, command in COMMANDS
        for option in command.params
        if option.name != "help" and not getattr(option, "is_flag", False) and not option.required
        if option.default in (None, "", ()) and "default" not in (option.help or "")
    ]
    assert silent == []


def test_every_field_that_help_names_can_be_set_by_that_name() -> None:
    fields = re.compile(rf"(?<!/)\b(?:{'|'.join(BY_VERB)})\.[a-z_]+(?:\.[a-z_]+)*")
    named = {found for _, command in COMMANDS for found in fields.findall(command.help or "")}
    assert {"evaluate.context", "tune.leaves", "downsample.fraction", "finetune.phases.expert.steps"} <= named
    for path in named:
        recipe = (
            iris()
            if path.startswith("learn.")
            else jowa_40m_imagined().but(record=RecordConfig(), diagnose=DiagnoseConfig(), videos=VideosConfig())
        )
        with pytest.raises(UsageError) as caught:
            override(recipe, f"{path}=?")
        said = str(caught.value)
        assert not re.search(r"Unknown (?!protocol)", said) and "lies below a plain value" not in said


def test_no_word_of_help_is_taken_for_markup() -> None:
    texts = [text for _, command in COMMANDS for text in (command.help, *(o.help for o in command.params if o.name))]
    lost = [span.style for text in texts for span in render(text or "").spans]
    assert lost == []
    assert any("'worldline[hub]'" in render(text or "").plain for text in texts)


def test_games_are_read_as_people_type_them() -> None:
    assert chosen_games(" Pong, FREEWAY ,ms_pacman,ALE/Pong-v5,") == ("Pong", "Freeway", "MsPacman")
    assert chosen_games(None) == chosen_games("all") == ()
    for empty in ("", ",", " , "):
        with pytest.raises(UsageError, match="names no game: give some, such as Pong,Freeway, or leave it out"):
            chosen_games(empty)


def test_a_pattern_or_a_range_stands_for_every_game_that_it_fits() -> None:
    assert chosen_games("ms*") == ("MsPacman",) and len(chosen_games("*")) == len(GAMES)
    assert chosen_games("Pong, pong, Po*g") == ("Pong",), "each once"
    assert chosen_games("B?????Zone") == chosen_games("BattleZone") == chosen_games("Battle[A-Z]one")
    between = chosen_games("Pong...ms_pacman")
    assert between == chosen_games("MsPacman...ALE/Pong-v5"), "either end first"
    assert between == GAMES[GAMES.index("MsPacman") : GAMES.index("Pong") + 1] and 2 < len(between) < len(GAMES)
    assert chosen_games("Pong...Pong") == ("Pong",)


@pytest.mark.parametrize(
    ("games", "said"),
    [
        ("Xy*", "--games 'Xy*' fits no game: 'worldline games' lists all 111"),
        ("Pong,Xy*", "--games 'Xy*' fits no game"),
        ("[", "--games '[' fits no game"),
        ("Pong...Qbrt", "Unknown game 'Qbrt': did you mean 'Qbert'?"),
        ("Pong...", "Unknown game ''"),
        ("...", "Unknown game ''"),
        ("Pong...Qbert...Seaquest", "Unknown game 'Qbert...Seaquest'"),
        ("P*...Qbert", "Unknown game 'P*'"),
    ],
)
def test_a_pattern_or_a_range_that_fits_nothing_is_one_line_and_nothing_begins(
    games: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    assert run(["backfill", "--games", games, "--until", "segments"]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(said) and err.count("\n") == 1 and not out
    assert not (tmp_path / "home").exists()


def test_help_of_materialize_names_every_stage(capsys: pytest.CaptureFixture) -> None:
    assert run(["materialize", "--help"]) == 0
    words = set(re.findall(r"\w+", capsys.readouterr().out))
    assert {row.name for row in STAGES} <= words


def test_a_benchmark_is_a_name_for_its_games() -> None:
    games = chosen_games("Atari100k")
    assert len(games) == 26 and chosen_games("Zaxxon,atari100k") == ("Zaxxon", *games)
    released = [set(claim.scores) for claim in claims("Atari 100k") if claim.scores]
    assert released and all(played == {*games} for played in released), "the games that others published"


def test_a_seed_is_one_more_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path))
    assert run(["experiment", "new", "x", "--recipe", "iris", "--games", "atari100k", "--seed", "3"]) == 0
    (found,) = registered(tmp_path / "experiments")
    assert found.recipe.seed == 3 and len(found.recipe.games) == 26
