"""Every kind of URL opens its client with sensible defaults, or says in one line why not."""

import json
import os
import socketserver
import subprocess
import sys
from collections.abc import Iterator
from threading import Thread

import pytest

from pipelines.bucket import clients, retry
from pipelines.bucket.clients import GoogleClient, S3Client, connect
from pipelines.bucket.retry import BucketError
from pipelines.errors import UsageError


@pytest.fixture
def _nobody(monkeypatch) -> None:
    """Nobody is logged in anywhere."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.setenv(name, "/nowhere/at.all")


def test_google_reads_anonymously_with_one_try_and_no_control_plane() -> None:
    client = connect("gs://bucket-of-mine/dqn", {})
    assert isinstance(client, GoogleClient) and client.path == "bucket-of-mine/dqn"
    assert client.filesystem.credentials.token == "anon" and client.filesystem.requests_timeout == clients.TIMEOUT
    assert not hasattr(type(client.filesystem)._request, "__wrapped__")  # gcsfs' own retries are off
    assert os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] == "false"
    assert connect("gs://bucket-of-mine/dqn", {}).filesystem is client.filesystem


@pytest.mark.parametrize("given", ["true", None])
def test_the_control_plane_is_left_alone_unless_the_user_wants_it(given: str | None) -> None:
    """gcsfs decides at its import: a process of its own, in which nothing has imported it before."""
    program = "from pipelines.bucket.clients import connect; print(type(connect('gs://abc', {}).filesystem).__mro__)"
    name = "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"
    environment = {key: value for key, value in os.environ.items() if key != name} | ({name: given} if given else {})
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert "GCSFileSystem" in ran.stdout, ran.stderr
    assert ("ExtendedGcsFileSystem" in ran.stdout) is bool(given)


def test_s3_has_one_try_and_keeps_given_options() -> None:
    client = connect("s3://bucket-of-mine/dqn", {"anon": True, "config_kwargs": {"read_timeout": 3}})
    assert isinstance(client, S3Client) and client.path == "bucket-of-mine/dqn" and client.filesystem.retries == 1
    config = client.filesystem.config_kwargs
    assert config["read_timeout"] == 3 and config["retries"]["total_max_attempts"] == 1


@pytest.mark.parametrize("url", ["file:///somewhere", "/somewhere", "local:///somewhere"])
def test_local_folders_are_plain(url) -> None:
    client = connect(url, {})
    assert type(client) is clients.Client and client.path == "/somewhere" and not client.pins


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("gopher://b", {}, r"'gopher://b' is no bucket URL .*: write gs://\.\.\., s3://\.\.\. or file:///\.\.\."),
        ("zip://x::gs://abc", {}, "'zip://x::gs://abc' is a chain of URLs, which no bucket is: unpack it"),
        ("s3://abc", {"colour": "red", "key": "a", "username": "b"}, "cannot be opened with options"),
        ("s3://abc", {"anon": True, "colour": "red"}, r"with options anon, colour \(TypeError: .*'colour'"),
        ("s3://abc", {"anon": True, "client_kwargs": {"sise": 1}}, r"with options anon, client_kwargs \(TypeError"),
        ("s3://abc", {"profile": "nobody"}, r"options profile \(ProfileNotFound: .* \(nobody\) could not be found\)"),
        ("s3://abc", {}, r"No credentials for s3:// were found: export AWS_ACCESS_KEY_ID and .*anon: true"),
        ("gs://abc", {"acces": "read_only"}, r"Unknown option of gs:// 'acces': did you mean 'access'\?"),
        ("gs://abc", {"token": "google_default"}, r"with options token \(DefaultCredentialsError: File .*or log in as"),
        ("gs://abc", {"token": "/nowhere/key.json"}, r"The key file <token> cannot be read \(No such file"),
        ("gs://abc", {"access": "sometimes"}, r"with options access \(ValueError: access must be one of"),
    ],
)
@pytest.mark.usefixtures("_nobody")
def test_mistakes_are_usage_errors(url, options, words) -> None:
    for _ in range(2):  # fsspec keeps what it opened
        with pytest.raises(UsageError, match=words) as caught:
            connect(url, options)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{broken", "The key file <token> is not JSON: download the key again"),
        ("[]", "The key file <token> is neither a service account's nor a user's: it needs client_email, private_key"),
        (json.dumps({"type": "service_account", "private_key": "hush"}), "is neither a service account's nor"),
        (json.dumps({"client_email": "a@b", "private_key": "hush", "token_uri": "x"}), "cannot be opened with options"),
    ],
)
def test_a_key_file_that_is_none_is_a_usage_error_without_its_content(tmp_path, content, words) -> None:
    (tmp_path / "key.json").write_text(content)
    with pytest.raises(UsageError, match=words) as caught:
        connect("gs://abc", {"token": str(tmp_path / "key.json")})
    assert "\n" not in str(caught.value) and "hush" not in str(caught.value)


class _Proxy(socketserver.ThreadingTCPServer):
    """Notes what it is asked for, and gives nobody anything."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Refusing)
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Refusing(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.server.asked.append(self.rfile.readline().decode().rsplit(" ", 1)[0])
        self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


@pytest.fixture
def proxy(monkeypatch) -> Iterator[_Proxy]:
    """The proxy of the environment."""
    with _Proxy() as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, server.url)
            monkeypatch.delenv(name.upper(), raising=False)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("url", "options", "asked"),
    [
        ("gs://proxied", {}, "CONNECT storage.googleapis.com:443"),
        ("gs://proxied", {"session_kwargs": {"trust_env": False}, "endpoint_url": "http://127.0.0.1:9"}, None),
        ("s3://proxied", {"anon": True, "endpoint_url": "https://s3.invalid"}, "CONNECT s3.invalid:443"),
        ("https://proxied.invalid/dqn", {}, "CONNECT proxied.invalid:443"),
        ("http://proxied.invalid/dqn", {}, "GET http://proxied.invalid/dqn/x"),
    ],
)
def test_every_client_takes_the_proxy_of_the_environment(proxy: _Proxy, url, options, asked) -> None:
    client = connect(url, options)
    with pytest.raises(Exception):  # noqa: B017 -- each client has its own
        client.filesystem.ls(f"{client.path}/x")
    assert set(proxy.asked) == ({asked} if asked else set())


def test_logging_in_takes_the_proxy_too_and_an_answer_is_no_fault_of_ours(proxy: _Proxy, monkeypatch) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.001)
    with pytest.raises(BucketError, match=r"gs://proxied failed 6 times \(ProxyError: .*access_token=\*\*\*") as caught:
        connect("gs://proxied", {"token": "ya29.hush"})
    assert "hush" not in str(caught.value)
    assert proxy.asked == ["CONNECT oauth2.googleapis.com:443"] * retry.TRIES


def test_a_missing_client_names_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    known = sys.modules["fsspec.registry"]._registry  # `fsspec.registry` itself is a mapping
    monkeypatch.delitem(known, "s3", raising=False)
    with pytest.raises(UsageError, match=r"pip install 'worldline\[s3\]'"):
        connect("s3://abc", {})
