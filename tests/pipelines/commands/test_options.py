"""Options say what they stand for when left out, and name fields as `--set` takes them."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from rich.markup import render

from pipelines.cli import app, run
from pipelines.commands.options import chosen_games
from pipelines.errors import UsageError
from pipelines.graph.config_io import override
from pipelines.graph.table import BY_VERB, STAGES
from pipelines.recipes.jowa import jowa_40m_imagined


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
    recipe = jowa_40m_imagined()
    for path in named:
        with pytest.raises(UsageError) as caught:
            override(recipe, f"{path}=?")
        assert "Unknown" not in str(caught.value) and "lies below a plain value" not in str(caught.value)


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


def test_help_of_materialize_names_every_stage(capsys: pytest.CaptureFixture) -> None:
    assert run(["materialize", "--help"]) == 0
    words = set(re.findall(r"\w+", capsys.readouterr().out))
    assert {row.name for row in STAGES} <= words
