"""Films of a score: which are shown, and how many bytes of them."""

from pipelines.leaderboard import figures
from pipelines.leaderboard.entry import gather
from tests.pipelines.leaderboard import board


def entry_with(store, **files):
    """One score with the given files (`best_mp4` is best.mp4)."""

    def write(draft):
        for name, raw in files.items():
            draft.path(name.replace("_mp4", ".mp4").replace("_gif", ".gif")).write_bytes(raw)

    score = board.make(store, "scores", "Pong", (), write, metrics={"greedy": board.summary([1.0])})
    return gather([("demo", score)], store)


def test_films_replace_the_first_seconds(store):
    found = figures.videos(entry_with(store, play_gif=b"GIF89a", best_mp4=b"b", worst_mp4=b"w"))
    assert [film.caption for film in found] == ["demo plays Pong (best episode)", "demo plays Pong (worst episode)"]
    assert all(film.moves for film in found)


def test_a_gif_alone_is_shown(store):
    (found,) = figures.videos(entry_with(store, play_gif=b"GIF89a"))
    assert found.caption == "demo plays Pong" and found.source.startswith("data:image/gif")


def test_films_beyond_the_page_s_bytes_are_named(store, monkeypatch):
    monkeypatch.setattr(figures, "FILM_BYTES", 5)
    first, second = figures.videos(entry_with(store, best_mp4=b"1234", worst_mp4=b"1234"))
    assert first.moves and second.source == "" and "worst.mp4" in second.caption
