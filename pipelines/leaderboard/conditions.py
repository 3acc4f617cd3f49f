"""Under which conditions a score was made: two scores can be compared only where all of them are equal."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Conditions:
    """`rom` is the ROM's md5; where nobody recorded it, `rom` is empty and `source` says whose ROM it was.

    `episodes` were played of each game by every training run: one number, or the fewest and the most.
    """

    protocol: str
    rom: str
    source: str
    episodes: tuple[int, ...]

    @property
    def count(self) -> str:
        """The episodes in words: "16", or "8 to 16"."""
        return " to ".join(map(str, self.episodes))

    def differences(self, other: "Conditions") -> list[str]:
        """Why the two cannot be compared, in words; empty where they can."""
        said = []
        if self.protocol != other.protocol:
            said.append(f"protocol {self.protocol} against {other.protocol}")
        if self.rom != other.rom:
            said.append("another ROM" if self.rom and other.rom else "the ROM of one is not recorded")
        elif not self.rom and self.source != other.source:
            said.append("neither ROM is recorded")
        if self.episodes != other.episodes:
            said.append(f"{self.count} episode{'' if self.count == '1' else 's'} a game against {other.count}")
        return said
