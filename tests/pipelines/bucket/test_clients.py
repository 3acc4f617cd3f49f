"""Every kind of URL opens its client with sensible defaults, or says in one line why not."""

import os
import subprocess
import sys

import pytest

from pipelines.bucket import clients
from pipelines.bucket.clients import GoogleClient, S3Client, connect
from pipelines.errors import UsageError


def test_google_reads_anonymously_with_one_try_and_no_control_plane() -> None:
    client = connect("gs://bucket-of-mine/dqn", {})
    assert isinstance(client, GoogleClient) and client.path == "bucket-of-mine/dqn"
    assert client.filesystem.credentials.token == "anon" and client.filesystem.requests_timeout == clients.TIMEOUT
    assert not hasattr(type(client.filesystem)._request, "__wrapped__")  # gcsfs' own retries are off
    assert os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] == "false"
    assert connect("gs://bucket-of-mine/dqn", {}).filesystem is client.filesystem


def test_the_users_choice_of_control_plane_stays() -> None:
    code = "from pipelines.bucket.clients import connect; import os; connect('gs://abc', {}); print(os.environ[%r])"
    name = "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"
    ran = subprocess.run([sys.executable, "-c", code % name], env=os.environ | {name: "true"}, capture_output=True)
    assert ran.stdout == b"true\n", ran.stderr


def test_s3_has_one_try_and_keeps_given_options() -> None:
    client = connect("s3://bucket-of-mine/dqn", {"anon": True, "config_kwargs": {"read_timeout": 3}})
    assert isinstance(client, S3Client) and client.path == "bucket-of-mine/dqn" and client.filesystem.retries == 1
    config = client.filesystem.config_kwargs
    assert config["read_timeout"] == 3 and config["retries"] == {"total_max_attempts": 1}


@pytest.mark.parametrize("url", ["file:///somewhere", "/somewhere", "local:///somewhere"])
def test_local_folders_are_plain(url) -> None:
    client = connect(url, {})
    assert type(client) is clients.Client and client.path == "/somewhere" and not client.pins


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("gopher://b", {}, r"'gopher://b' is no bucket URL .*: write gs://\.\.\., s3://\.\.\. or file:///\.\.\."),
        ("s3://abc", {"colour": "red", "key": "a", "username": "b"}, "cannot be opened with options"),
        ("gs://abc", {"access": "sometimes"}, r"options \['access', .* \(access must be one of"),
    ],
)
def test_mistakes_are_usage_errors(url, options, words) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        connect(url, options)
    assert "\n" not in str(caught.value)


def test_a_missing_client_names_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    known = sys.modules["fsspec.registry"]._registry  # `fsspec.registry` itself is a mapping
    monkeypatch.delitem(known, "s3", raising=False)
    with pytest.raises(UsageError, match=r"pip install 'worldline\[s3\]'"):
        connect("s3://abc", {})
