"""The limits of the house, as a ratchet: how long files and functions are, which rooms know which, where names stand.

A limit that is lowered stays low. Rooms are the folders below `models` and `pipelines`, and `assets` as one; an arrow
is an import between two rooms that runs whenever the importing code does.
"""

import ast
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from models.registry import FAMILIES
from pipelines.graph.table import STAGES
from tests.fakes import ROOT

LINES, FUNCTION, ROOMS, ARROWS = 400, 60, 31, 155  # the newest: practice on planning, as actors are searched too
# Files of which one run of `mini` runs a function: a reader who follows it opens no more. The newest: what policies
# remember, which JOWA's shares with those of actors, and one that nobody noticed: 130 before them. Before that: what
# imagined tokens are drafted and verified by, the tables of other benchmarks, which the leaderboard asks whether they
# hold anything, and spaces of actions. 115 before them.
ENTERED = 132
# Who may name a family: its own rooms and plug, what is made for it alone, and its recipes.
OF_FAMILIES = (
    "models/registry.py",
    "models/parity/",
    "pipelines/recipes/",
    "pipelines/tools/bench/",
)


@cache
def sources() -> dict[str, Path]:
    """Every module of the project by its dotted name."""
    files = [path for layer in ("assets", "pipelines", "models") for path in (ROOT / layer).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> tuple[str, ...]:
    """The project's modules that a file imports, but for annotations."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for_annotations = {
        id(inner)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree(path)):
        if id(node) in for_annotations:
            continue
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom) and node.module:
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in sources() else node.module for name in full]
        yield from (name for name in names if name in sources())


@cache
def defined(path: Path) -> frozenset[str]:
    """What a module binds at its top, below conditions too."""
    found: set[str] = set()
    waiting: list[ast.AST] = [tree(path)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
            continue
        if isinstance(node, ast.alias):
            found.add((node.asname or node.name).split(".")[0])
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        waiting += ast.iter_child_nodes(node)
    return frozenset(found)


def room(module: str) -> str | None:
    """The room that a module lies in; None for a file that stands beside the rooms."""
    parts = module.split(".")
    if parts[0] == "assets":
        return "assets"
    return ".".join(parts[:2]) if len(parts) > 1 and (ROOT / parts[0] / parts[1]).is_dir() else None


def arrows() -> dict[str, set[str]]:
    """The rooms that each room imports."""
    found: dict[str, set[str]] = defaultdict(set)
    for module, path in sources().items():
        if (here := room(module)) is not None:
            found[here] |= {there for name in imports(path) if (there := room(name)) is not None and there != here}
    return found


def test_no_file_and_no_function_is_too_long() -> None:
    tests = (ROOT / "tests").rglob("*.py")
    files = {path: len(path.read_text().splitlines()) for path in (*sources().values(), *tests)}
    assert not {str(path): lines for path, lines in files.items() if lines > LINES}
    functions = {
        f"{module}.{node.name}": length
        for module, path in sources().items()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and (length := node.end_lineno - node.lineno + 1) > FUNCTION
    }
    assert not functions


def test_rooms_are_few_and_know_each_other_in_one_direction() -> None:
    found = arrows()
    assert len(found) <= ROOMS, sorted(found)
    assert sum(map(len, found.values())) <= ARROWS
    try:
        tuple(TopologicalSorter(found).static_order())
    except CycleError as error:
        pytest.fail(f"rooms in a circle: {' -> '.join(error.args[1])}")


def test_only_its_own_rooms_and_the_registry_import_a_family() -> None:
    strangers = {
        (str(path.relative_to(ROOT)), name)
        for path in sources().values()
        for name in imports(path)
        for family in FAMILIES
        if name.startswith(f"models.{family}") and not path.is_relative_to(ROOT / "models" / family)
    }
    assert not {pair for pair in strangers if not pair[0].startswith(OF_FAMILIES)}


def test_a_stage_is_named_by_its_row_and_its_file_alone() -> None:
    """What the graph and Dagster do for stages follows from the table: a new stage is two edits."""
    names = {row.name for row in STAGES if "_" in row.name}  # a plain word such as 'tokens' means other things too
    generic = [path for name, path in sources().items() if name.startswith(("assets", "pipelines.graph"))]
    found = {
        (str(path.relative_to(ROOT)), node.value)
        for path in generic
        if path.name != "table.py"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and node.value in names
    }
    assert not found


def test_what_a_test_imports_of_another_is_there() -> None:
    """Whoever moves a helper sees it here in a second: nothing checks the types of tests, and it ends the whole run."""
    files = (*(ROOT / "tests").rglob("*.py"), *sources().values())
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}
    missing = {
        f"{importing}: {alias.name} of {node.module}"
        for importing, path in names.items()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and node.module in names
        for alias in node.names
        if alias.name not in defined(names[node.module]) and f"{node.module}.{alias.name}" not in names
        if not (names[node.module].parent / alias.name).is_dir()
    }
    assert not missing


@pytest.mark.parametrize(("stage", "most"), [("pipelines.stages.train", 16), ("pipelines.stages.segment", 12)])
def test_a_stages_file_needs_few_others(stage: str, most: int) -> None:
    assert len(set(imports(sources()[stage]))) <= most


def test_describing_a_run_imports_neither_torch_nor_dagster() -> None:
    asked = "import pipelines.recipes.registry, pipelines.graph.plan, sys"
    asked += "; print({'torch', 'dagster'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.slow
def test_a_run_of_mini_enters_few_files(tmp_path: Path) -> None:
    """In a process of its own: what is imported already enters nothing again."""
    environment = {**os.environ, "WORLDLINE_HOME": str(tmp_path), "WORLDLINE_STORAGE": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.entered", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    found = set(done.stdout.splitlines())
    assert {"pipelines/stages/collect.py", "models/jowa/loss.py", "pipelines/leaderboard/page.py"} <= found
    assert len(found) <= ENTERED, sorted(found)


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_make_notices_a_venv_of_another_folder(tmp_path: Path) -> None:
    """Copied or moved with its project, it runs the Python and the code of the old place."""
    here = tmp_path / "a project"
    (here / ".venv" / "bin").mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt", "Makefile"):
        shutil.copy2(ROOT / name, here)

    def would_do(first_line: str) -> str:
        (here / ".venv" / "bin" / "pip").write_text(f"{first_line}\n")
        (here / ".venv" / ".installed").touch()
        return subprocess.run(["make", "-n", "setup"], cwd=here, capture_output=True, text=True, check=True).stdout

    assert "rm -rf .venv" in would_do("#!/elsewhere/.venv/bin/python")
    assert "rm -rf .venv" in would_do(f"#!/mnt{here}/.venv/bin/python")
    assert "Nothing to be done" in would_do(f"#!{here}/.venv/bin/python")
    assert "Nothing to be done" in would_do(f'#!/bin/sh\n\'\'\'exec\' "{here}/.venv/bin/python" "$0" "$@"')
