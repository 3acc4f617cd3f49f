"""A folder for browsers dreams as the agent does, and what cannot be one is refused in a line."""

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from docs.chromium import browser, find_browser
from models.iris.agent import IrisAgent
from models.jowa.agent import JowaAgent
from models.jowa.config import JowaAgentConfig, JowaConfig
from models.tokenizers.config import TokenizerConfig
from pipelines.environments.actions import own_actions
from pipelines.errors import UsageError, WorldlineError
from pipelines.store.artefact import Artefact, Draft
from pipelines.store.store import Store
from pipelines.tools.exports import browser as exporter
from pipelines.tools.exports import onnx_runtime_web
from pipelines.tools.exports.browser import BrowserFolder, OnnxDream, Opening, require_fast, require_portable
from pipelines.tools.exports.export import export
from pipelines.training.checkpoints import save_agent
from tests.fakes import spec
from tests.pipelines.tools.exports.test_run_folder import NETWORKS

CONFIG = JowaAgentConfig(
    tokenizer=TokenizerConfig(
        vocab_size=16, embed_dim=8, z_channels=8, channels=4, res_blocks=1, attention=False, patch_stem=7,
        downsample=(2,), resolution=28,
    ),
    model=JowaConfig(
        vocab_size=16, tokens_per_frame=4, max_steps=3, layers=1, heads=2, width=16, q_hidden=8, embedding_std=1.0
    ),
)  # fmt: skip
RUNTIME = {name: name.encode() for name in onnx_runtime_web.FILES}
TWO = Opening(np.array([[1, 2, 3, 4], [5, 6, 7, 8]]), np.array([3]), "a test")
ONE = Opening(np.array([[9, 9, 0, 1]]), np.array([], np.int64), "another")


@pytest.fixture(scope="module")
def agent() -> JowaAgent:
    agent = JowaAgent(CONFIG, seed=1)
    draws = torch.Generator().manual_seed(2)
    with torch.no_grad():  # so that actions and tokens differ from input to input
        for parameter in agent.model.parameters():
            if parameter.ndim > 1:
                parameter.add_(torch.randn(parameter.shape, generator=draws) * 0.4)
        list(agent.model.head_ends.parameters())[-1].copy_(torch.tensor([99.0, 0.0]))  # a dream goes on
    return agent


@pytest.fixture(scope="module")
def made(agent: JowaAgent, tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    def build(draft: Draft) -> None:
        save_agent(draft.folder, agent)

    return Store(tmp_path_factory.mktemp("store")).produce(spec("pretrained", "all"), build).artefact


@pytest.fixture(scope="module")
def folder(agent: JowaAgent, made: Artefact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    what = BrowserFolder(made, agent, "Pong", (TWO, ONE), RUNTIME, '{"ref": "x"}', "page")
    assert "3 graphs, 2 beginnings" in str(export(made, what, out))
    return out / "page"


@pytest.mark.slow
def test_all_that_a_page_needs_is_there(folder: Path) -> None:
    names = {str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()}
    page = {"index.html", "dream.js", *exporter.SHARED, *(f"ort/{name}" for name in RUNTIME)}
    assert names == page | {"read.onnx", "step.onnx", "decode.onnx", "world.json", "lineage.json"}
    world = json.loads((folder / "world.json").read_text())
    assert [name for name, _ in world["actions"]] == list(own_actions("Pong")) and world["window"] == 3
    assert world["beginnings"][0]["tokens"] == [1, 2, 3, 4, 3, 5, 6, 7, 8] and world["frame"] == [28, 28, 1]
    assert world["origin"]["ref"].startswith("pretrained/")
    html = (folder / "index.html").read_text()
    assert "default-src 'self'" in html and "//" not in html.replace("<!doctype", "")


@pytest.mark.slow
def test_another_networks_page_does_not_read_back(folder: Path, made: Artefact) -> None:
    other = JowaAgent(CONFIG, seed=9)
    with torch.no_grad():
        list(other.model.head_observations.parameters())[-1].add_(torch.arange(16.0))
    what = BrowserFolder(made, other, "Pong", (TWO,), RUNTIME, "", "page")
    with pytest.raises(WorldlineError, match=r"does not read back as written \(step 0 of a dream"):
        what.read_back(folder, lambda *_: None)


def test_what_cannot_play_in_a_browser_is_refused(agent: JowaAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="family 'iris' cannot dream in a browser yet"):
        require_portable(IrisAgent(NETWORKS), "iris")
    require_portable(agent, "jowa")
    assert require_fast(agent, TWO, "Pong") > exporter.SLOWEST
    monkeypatch.setattr(exporter, "SLOWEST", 1e9)
    with pytest.raises(UsageError, match=r"plays [\d.]+ steps/s on one core here, and slower in a browser"):
        require_fast(agent, TWO, "Pong")
    monkeypatch.setattr(exporter, "NEEDED", ("onnx", "no_such_library"))
    with pytest.raises(UsageError, match=r"needs no_such_library, not installed here: pip install 'worldline\[browser"):
        require_portable(agent, "jowa")


PROGRAM = ""
with suppress(UsageError):
    PROGRAM = find_browser(None)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A static server that says nothing."""

    def log_message(self, *_: object) -> None:
        """No line a request."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
@pytest.mark.skipif(not PROGRAM, reason="no Chromium is here")
def test_a_browser_plays_the_same_dream(agent: JowaAgent, made: Artefact, tmp_path: Path) -> None:
    try:
        runtime = onnx_runtime_web.files_of(None)
    except (UsageError, WorldlineError) as error:
        pytest.skip(str(error))
    export(made, BrowserFolder(made, agent, "Pong", (TWO, ONE), runtime, "{}", "page"), tmp_path)
    dream = OnnxDream(tmp_path / "page", agent.window)
    dream.begin(ONE)
    with served(tmp_path / "page") as address, browser(PROGRAM) as opened:
        shown = opened.page
        shown.open(address)
        shown.wait("document.querySelector('#facts dd')")
        shown.key(".")
        shown.wait("document.querySelector('#pause').textContent === 'Go on'")
        step = "[...document.querySelectorAll('#facts dt')].find((each) => each.textContent === '{}').nextSibling"
        shown.key("Enter")
        shown.wait(f"{step.format('from')}.textContent === 'another'")
        for number, name in enumerate(("NOOP", "RIGHT", "NOOP", "LEFT"), start=1):
            key = {"RIGHT": "d", "LEFT": "a"}.get(name)
            if key:
                shown.key(key, up=False)
            shown.key("n")
            shown.wait(f"{step.format('step')}.textContent === '{number}'")
            if key:
                shown.key(key, down=False)
            found = dream.step(dict(json.loads((tmp_path / "page/world.json").read_text())["actions"])[name])
            picture = np.round(dream.picture(found["observation"])[0] * 255)
            pixels = "Array.from(document.querySelector('canvas').getContext('2d').getImageData(0, 0, 28, 28).data)"
            drawn = np.array(shown.get(pixels)).reshape(28, 28, 4)[..., 0]
            assert np.abs(drawn - picture).max() <= 1, name
        assert shown.get("document.querySelector('#notes').textContent") == ""
