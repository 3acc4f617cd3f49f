"""The ROM ledger: whether the ROM that a score was played on is the one behind DQN-Replay.

DQN-Replay was collected on the ROMs of atari-py 0.2.5. ale-py ships the same bytes for 31 of the 60 games; for the
other 29 the older ROM's md5 stands here, so that a user's own copy can be told. 21 of those look different on screen
(800 raw frames compared), and the emulators differ too, so equal ROMs do not promise equal frames in every game.
No ROM is shipped: `--rom-dir` names a folder of yours.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines.environments.atari.games import ale_name, check_game, rom_md5, rom_path
from pipelines.errors import UsageError, WorldlineError

LARGEST = 1 << 16  # bytes; no cartridge of the 60 games holds more than 16 KiB

# Where ale-py's ROM has other bytes: md5 of the ROM behind DQN-Replay (measured on the wheel of atari-py 0.2.5).
_REPLAY_MD5 = {
    "Amidar": "056f5d886a4e7e6fdd83650554997d0d",
    "Assault": "c31a17942d162b80962cb1f7571cd1d5",
    "Atlantis": "0b33252b680b65001e91a411e56e72e9",
    "BankHeist": "83b8c01c72306d60dd9b753332ebd276",
    "BattleZone": "e434c0e161dd3c3fb435eb6bad2e182c",
    "Berzerk": "fac28963307b6e85082ccd77c88325e7",
    "Carnival": "de29e46dbea003c3c09c892d668b9413",
    "Centipede": "17d000a2882f9fdaa8b4a391ad367f00",
    "DemonAttack": "b24f6a5820a4b7763a3d547e3e07441d",
    "DoubleDunk": "cfc226d04d7490b69e155abd7741e98c",
    "Gopher": "8f90590dba143d783df5a6cff2000e4d",
    "Gravitar": "4767356fa0ed3ebe21437b4473d4ee28",
    "IceHockey": "47711c44723da5d67047990157dcb5dd",
    "Krull": "cc724ebe74a109e39c0b2784ddc980ca",
    "KungFuMaster": "0b4e793c9425175498f5a65a3e960086",
    "MsPacman": "9469d18238345d87768e8965f9f4a6b2",
    "NameThisGame": "f98d2276d4a25b286135566255aea9d0",
    "Pitfall": "f73d2d0eff548e8fc66996f27acf2b4b",
    "Pooyan": "668dc528b7ea9345140f4fcfbecf7066",
    "Riverraid": "da5096000db5fdaa8d02db57d9367998",
    "RoadRunner": "7d3cdde63b16fa637c4484e716839c94",
    "Skiing": "367411b78119299234772c08df10e134",
    "SpaceInvaders": "61dbe94f110f30ca4ec524ae5ce2d026",
    "Tennis": "a5c96b046d5f8b7c96daaa12f925bef8",
    "Tutankham": "66c2380c71709efa7b166621e5bb4558",
    "Venture": "c63a98ca404aa5ee9fcff1de488c3f43",
    "VideoPinball": "a2424c1a0c783d7585d701b1c71b5fdc",
    "WizardOfWor": "663ef22eb399504d5204c543b8a86bcd",
    "YarsRevenge": "ee8027d554d14c8d0b86f94737d2fdcc",
}


@dataclass(frozen=True)
class Rom:
    """One game's ROM file. `origin` is "shipped" (by ale-py) or "yours"."""

    game: str
    path: Path
    md5: str
    origin: str

    @property
    def is_replays(self) -> bool:
        """Whether these are the bytes that DQN-Replay was played on."""
        return self.md5 == replay_md5(self.game)


def replay_md5(game: str) -> str:
    """Hex md5 of the ROM behind DQN-Replay. Raises UsageError for an unknown game."""
    return _REPLAY_MD5.get(check_game(game)) or rom_md5(game)


def shipped(game: str) -> Rom:
    """ale-py's own ROM. Raises UsageError for an unknown game."""
    return Rom(game, rom_path(game), rom_md5(game), "shipped")


def find(game: str, folder: Path) -> Rom:
    """The ROM in a user's folder that DQN-Replay was played on, whatever its file is called.

    Raises UsageError when the folder cannot be read or holds none of that md5.
    """
    wanted = replay_md5(game)
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file() and path.stat().st_size <= LARGEST)
        found = {hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest(): path for path in files}
    except OSError as error:
        raise UsageError(
            f"ROM folder {folder} cannot be read ({error.strerror}): name a folder of ROM files"
        ) from error
    if wanted not in found:
        named = next((path for path in files if path.stem.lower() in (ale_name(game), game.lower())), None)
        seen = f"its {named.name} is another one" if named else f"none of its {len(files)} files is"
        raise UsageError(
            f"ROM folder {folder} has no {game} of md5 {wanted}, {seen}: add that ROM (atari-py 0.2.5 had it), or "
            "leave --rom-dir away to play ale-py's"
        )
    return Rom(game, found[wanted], wanted, "yours")


@contextmanager
def playable(rom: Rom) -> Iterator[Path]:
    """A file that emulators know the game of: yours, under ale-py's name for the time of playing."""
    if rom.origin == "shipped":
        yield rom.path
        return
    with TemporaryDirectory(prefix="worldline-rom-") as folder:
        path = Path(folder) / f"{ale_name(rom.game)}.bin"
        path.write_bytes(rom.path.read_bytes())
        yield path


def require(game: str, md5: str) -> None:
    """Raises WorldlineError when ale-py's ROM is not the one that something else was made with."""
    if (here := rom_md5(game)) != md5:
        raise WorldlineError(
            f"The ROM of {game} has md5 {here}, not {md5}: the scores would not compare; install the ale-py it was "
            "made with, or name the ROM with --rom-dir"
        )


def chosen(game: str, folder: str = "", md5: str = "") -> Rom:
    """The ROM to play: yours where a folder is named, else ale-py's. Raises an error of one line for another md5."""
    ours = shipped(game)
    rom = find(game, Path(folder)) if folder else ours
    if rom.md5 == ours.md5:
        rom = ours
    elif not md5:
        raise UsageError(
            f"The ROM of {game} in {folder} is not ale-py's, and scores are known by their ROM: set "
            f"rom_md5={rom.md5} beside rom_dir, as 'worldline evaluate --rom-dir' does"
        )
    if md5 and rom.md5 != md5:
        require(game, md5)
    return rom
