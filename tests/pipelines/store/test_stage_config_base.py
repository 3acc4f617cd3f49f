"""Which fields of a config make an artefact another one."""

from dataclasses import dataclass
from typing import ClassVar

from pipelines.store.ref import Ref
from pipelines.store.stage_config import StageConfig, manner, option


@dataclass(frozen=True)
class Inner:
    steps: int = 3
    late: bool = option(False)


@dataclass(frozen=True)
class Config(StageConfig):
    STAGE: ClassVar[str] = "test"
    VERB: ClassVar[str] = "try"
    CODE: ClassVar[str] = "1"

    game: str
    parent: Ref | None = None
    many: tuple[Ref, ...] = ()
    inner: tuple[Inner, ...] = (Inner(),)
    late: int = option(0)
    workers: int = manner(2)

    @property
    def subject(self) -> str:
        return self.game


def test_an_option_counts_once_it_is_used() -> None:
    plain = Config("Pong").spec()
    assert plain.config["inner"] == [{"steps": 3}] and "late" not in plain.config
    assert Config("Pong", late=1).spec().config["late"] == 1
    assert Config("Pong", late=1).spec().key != plain.key
    assert Config("Pong", inner=(Inner(late=True),)).spec().key != plain.key


def test_a_manner_never_counts() -> None:
    assert Config("Pong", workers=16).spec() == Config("Pong").spec()


def test_parents_are_not_config() -> None:
    ref = Ref("other", "Pong", "0" * 16)
    spec = Config("Pong", parent=ref, many=(ref,)).spec()
    assert spec.parents == (ref, ref) and not {"parent", "many"} & set(spec.config)
