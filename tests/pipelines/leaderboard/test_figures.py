"""Films of a score: which are shown, how many bytes of them, and what stands in for the others."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from pipelines.evaluation import film
from pipelines.leaderboard import figures
from pipelines.leaderboard.agent_scores import gather, samples
from tests.pipelines.leaderboard import board


def of(store, game="Pong", **files):
    """The films of one score with the given files (`best_mp4` is best.mp4)."""
    return figures.films(samples(gather([("demo", score(store, game, **files))], store)))


def score(store, game, **files):
    def write(draft):
        for name, raw in files.items():
            draft.path(name.replace("_mp4", ".mp4").replace("_gif", ".gif")).write_bytes(raw)

    return board.make(store, "scores", game, (), write, metrics={"greedy": board.summary([1.0])})


def real_film(folder):
    """A film as evaluation writes it, as bytes: nine shades, a step each."""
    frames = (np.full((84, 84), 20 * step, np.uint8) for step in range(9))
    return film.write(frames, folder / "best.mp4").read_bytes()


def test_films_replace_the_first_seconds(store):
    found = of(store, play_gif=b"GIF89a", best_mp4=b"b", median_mp4=b"m", worst_mp4=b"w")
    assert [each.caption for each in found] == [
        f"demo plays Pong, {name} episode" for name in ("best", "median", "worst")
    ]
    assert all(each.moves for each in found)
    instead = [each.instead for each in found]
    assert instead[1].startswith("data:image/gif") and instead[0] == instead[2] == "", "once is enough"


def test_a_gif_alone_is_shown(store):
    (found,) = of(store, play_gif=b"GIF89a")
    assert found.caption == "demo plays Pong" and found.source.startswith("data:image/gif") and not found.moves


def test_beyond_the_page_s_bytes_medians_of_all_games_come_first(store, monkeypatch):
    monkeypatch.setattr(figures, "FILM_BYTES", 8)
    scores = [score(store, game, best_mp4=b"123", median_mp4=b"1234") for game in ("Pong", "Boxing")]
    found = figures.films(samples(gather([("demo", each) for each in scores], store)))
    assert [bool(each.source) for each in found] == [False, True, False, True]
    assert found[0].caption == "demo plays Pong, best episode (0.0 MB, not in this page)"
    assert found[0].link == f"../../../{scores[0].ref}/best.mp4"
    assert (store.root / "leaderboard" / "all" / "key" / found[0].link).resolve() == scores[0].path(
        "best.mp4"
    ).resolve()


def test_openings_take_only_what_films_leave(store, monkeypatch):
    monkeypatch.setattr(figures, "FILM_BYTES", 8)
    (film,) = of(store, play_gif=b"GIF89", best_mp4=b"1234")
    assert film.source and film.instead == ""


def test_a_still_of_a_real_film_and_none_of_a_broken_one(store, tmp_path):
    good, bad = of(store, best_mp4=real_film(tmp_path), worst_mp4=b"no film")
    kind, _, raw = good.poster.partition(",")
    assert kind == "data:image/png;base64" and bad.poster == ""
    with Image.open(io.BytesIO(base64.b64decode(raw))) as still:
        assert still.size == (168, 168) and np.asarray(still).mean() == pytest.approx(60, abs=6), "a third of the way"
