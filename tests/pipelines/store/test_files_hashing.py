"""Hashes against published check values."""

from pathlib import Path

from pipelines.store.files import BLOCK, crc32c_of, sha256_of


def test_check_values(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"123456789")
    assert crc32c_of(path) == "e3069283"  # the check value of CRC-32C, RFC 3720
    path.write_bytes(b"abc")
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2


def test_more_than_one_block_and_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(BLOCK) + b"\x01")
    one = crc32c_of(path)
    path.write_bytes(bytes(BLOCK) + b"\x02")
    assert crc32c_of(path) != one
    path.write_bytes(b"")
    assert crc32c_of(path) == "00000000"
