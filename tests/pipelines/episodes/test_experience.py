import copy
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.episodes.experience import ORIGIN, STEP, TURNS, Experience, Game
from pipelines.episodes.trajectories import FLAT, Trajectories
from pipelines.errors import WorldlineError

SHAPE = (2, 3, 3)
BEGIN = (Game(5), Game(6))


def play(count: int, first: int, ends: tuple[int, ...] = ()) -> tuple[NDArray[np.uint8], NDArray[np.void]]:
    """Steps numbered from `first` on: their number is in the frame, the action and the reward."""
    numbers = np.arange(first, first + count)
    frames = np.broadcast_to(numbers[:, None, None, None], (count, *SHAPE)).astype(np.uint8)
    steps = np.zeros(count, STEP)
    steps["actions"], steps["rewards"] = numbers % 6, numbers
    steps["terminals"][list(ends)] = 1
    return frames, steps


def open_in(folder: Path) -> Experience:
    return Experience(folder, "Pong", SHAPE, BEGIN)


@settings(max_examples=30)
@given(turns=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans()), min_size=1, max_size=5))
def test_it_reads_as_the_rows_one_behind_the_other(
    tmp_path_factory: pytest.TempPathFactory, turns: list[tuple[int, int, bool]]
) -> None:
    ours = open_in(tmp_path_factory.mktemp("experience"))
    told: list[list[NDArray]] = [[], []]
    for number, (left, right, ends) in enumerate(turns):
        for row, count in enumerate((left, right)):
            frames, steps = play(count, number * 10 + row * 100, (count - 1,) if ends and count else ())
            if count:
                ours.add(row, frames, steps)
            told[row].append(steps)
        ours.commit([Game(5, number), Game(6, number)])
    columns = np.concatenate([step for row in told for step in row])
    for reader in (ours, open_in(ours.folder), copy.deepcopy(ours)):
        assert len(reader) == len(columns) == sum(reader.last.steps) and reader.turns == len(turns)
        for name in FLAT:
            assert np.array_equal(getattr(reader, name), columns[name])
        assert np.array_equal(reader.frames(0, len(reader))[:, 0, 0, 0], columns["rewards"].astype(np.uint8))
        ends = set((np.flatnonzero(columns["terminals"]) + 1).tolist()) | {sum(map(len, told[0])), len(columns), 0}
        assert reader.episode_starts.tolist() == sorted(ends)
        assert reader.last.games == (Game(5, len(turns) - 1), Game(6, len(turns) - 1))


def test_what_was_not_committed_is_not_there_and_is_written_over(tmp_path: Path) -> None:
    ours = open_in(tmp_path)
    ours.add(0, *play(4, 0))
    assert len(ours) == 0 and len(open_in(tmp_path)) == 0
    again = open_in(tmp_path)
    again.add(0, *play(2, 50))
    again.commit(BEGIN)
    assert open_in(tmp_path).rewards.tolist() == [50, 51]
    whole = (tmp_path / TURNS).read_bytes()
    with (tmp_path / TURNS).open("a") as file:
        file.write('{"steps": [9, 0], "games": [{"seed": 5, "number": 10, "first": 2}, {"se')  # killed while it wrote
    found = open_in(tmp_path)
    assert found.last.steps == (2, 0)
    found.add(0, *play(1, 60))
    found.commit(BEGIN)
    assert (tmp_path / TURNS).read_bytes().startswith(whole) and (tmp_path / TURNS).read_text().count("\n") == 2
    assert open_in(tmp_path).rewards.tolist() == [50, 51, 60]


def test_who_reads_while_another_writes_alters_nothing(tmp_path: Path) -> None:
    """However far the writer of a line has come, the reader sees the turns before it, and leaves the file as it is."""
    ours = open_in(tmp_path)
    ours.add(0, *play(4, 0))
    ours.commit(BEGIN)
    first = (tmp_path / TURNS).read_bytes()
    reader = open_in(tmp_path)
    ours.add(0, *play(3, 10))
    ours.commit(BEGIN)
    both = (tmp_path / TURNS).read_bytes()
    for size in range(len(first), len(both)):
        (tmp_path / TURNS).write_bytes(both[:size])
        reader.refresh()
        assert reader.turns == 1 and reader.rewards.tolist() == [0, 1, 2, 3], size
        assert (tmp_path / TURNS).read_bytes() == both[:size], size
    (tmp_path / TURNS).write_bytes(both)
    reader.refresh()
    assert reader.rewards.tolist() == [0, 1, 2, 3, 10, 11, 12]


def test_it_goes_back_and_on_from_there(tmp_path: Path) -> None:
    ours = open_in(tmp_path)
    for turn in range(3):
        ours.add(0, *play(3, 10 * turn))
        ours.commit([Game(5, turn), Game(6)])
    ours.rewind(1)
    assert ours.rewards.tolist() == [0, 1, 2] and ours.last.games[0] == Game(5, 0)
    ours.add(0, *play(2, 70))
    ours.commit(BEGIN)
    assert ours.rewards.tolist() == open_in(tmp_path).rewards.tolist() == [0, 1, 2, 70, 71]
    other = open_in(tmp_path)
    ours.add(1, *play(1, 90))
    ours.commit(BEGIN)
    assert len(other) == 5
    other.refresh()
    assert other.rewards.tolist() == [0, 1, 2, 70, 71, 90]
    with pytest.raises(WorldlineError, match="holds 3 turns of play and the training stands after 4"):
        ours.rewind(4)


def test_it_becomes_a_file_of_trajectories(tmp_path: Path) -> None:
    ours = open_in(tmp_path / "experience")
    ours.add(0, *play(20, 0, ends=(6,)))
    ours.add(1, *play(19, 100))
    ours.commit(BEGIN)
    digest = ours.pack_into(tmp_path / "trajectories.h5")
    packed = Trajectories(tmp_path / "trajectories.h5")
    assert packed.episode_starts.tolist() == [0, 7, 20, 39] and len(digest) == 64
    assert np.array_equal(packed.frames(0, 39), ours.frames(0, 39))
    for name in FLAT:
        assert np.array_equal(getattr(packed, name), getattr(ours, name))
    assert ours.pack_into(tmp_path / "again.h5") == digest


@pytest.mark.parametrize("damage", ["torn frames", "no steps", "other rows", "no numbers", "no origin"])
def test_a_damaged_folder_is_one_line(tmp_path: Path, damage: str) -> None:
    ours = open_in(tmp_path)
    ours.add(0, *play(4, 0))
    ours.commit(BEGIN)
    if damage == "torn frames":
        (tmp_path / "0.frames").write_bytes((tmp_path / "0.frames").read_bytes()[:-1])
    elif damage == "no steps":
        (tmp_path / "0.steps").unlink()
    elif damage == "other rows":
        (tmp_path / TURNS).write_text('{"steps": [4], "games": [{"seed": 1, "number": 0, "first": 0}]}\n')
    elif damage == "no origin":
        (tmp_path / ORIGIN).write_text("{")
    else:
        (tmp_path / TURNS).write_text('{"steps": "many"}\n')
    with pytest.raises(WorldlineError, match="delete its parent folder, and the training starts anew") as error:
        open_in(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "other"), [("game", "Qbert"), ("frame", [84, 84]), ("rom_md5", "0" * 32), ("emulator", "ale-py 9.9")]
)
def test_what_was_played_with_something_else_is_one_line(tmp_path: Path, name: str, other: object) -> None:
    origin = {"rom_md5": "f" * 32, "emulator": "ale-py 0.1"}
    ours = Experience(tmp_path, "Pong", SHAPE, BEGIN, origin)
    ours.add(0, *play(4, 0))
    ours.commit(BEGIN)
    assert len(Experience(tmp_path, "Pong", SHAPE, BEGIN, origin)) == 4
    kept = json.loads((tmp_path / ORIGIN).read_text())
    (tmp_path / ORIGIN).write_text(json.dumps(kept | {name: other}))
    with pytest.raises(WorldlineError) as error:
        Experience(tmp_path, "Pong", SHAPE, BEGIN, origin)
    assert str(error.value) == (
        f"{tmp_path} was played with {name} {other}, here it is {kept[name]}: play with that one again, or delete its "
        "parent folder, and the training starts anew"
    )


def test_frames_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give"):
        open_in(tmp_path).add(0, np.zeros((2, 5, 5, 3), np.uint8), np.zeros(2, STEP))
