"""Content hashes of files, read in blocks (about 1 GB/s)."""

import hashlib
from pathlib import Path

import google_crc32c

BLOCK = 1 << 20


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def crc32c_of(path: Path) -> str:
    """Hex crc32c of a file, the checksum that object stores publish."""
    checksum = google_crc32c.Checksum()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            checksum.update(block)
    return checksum.hexdigest().decode()
