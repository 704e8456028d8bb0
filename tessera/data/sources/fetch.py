"""Fetching pinned packages with the registries' own clients, and reading them in place.

A package is fetched once into a cache folder, its SHA-256 compared before it is opened, and
nothing in it is run or unpacked. npm's client fetches npm packages, apt-get Debian's.
"""

import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tessera.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package of a registry, pinned by version and by the hash of its archive."""

    registry: Literal["npm", "debian"]
    name: str
    version: str
    sha256: str
    licence: str

    @property
    def label(self) -> str:
        """Name and version as the manifest gives them."""
        return f"{self.registry}:{self.name}@{self.version}"

    @property
    def file_name(self) -> str:
        """Name of the archive in the cache."""
        stem = self.name.replace("@", "").replace("/", "-")
        return (
            f"{stem}-{self.version.replace(':', '_')}.{'tgz' if self.registry == 'npm' else 'deb'}"
        )


def fetch(
    package: Package, cache: Path, *, run: Callable[[Package, Path], Path] | None = None
) -> Path:
    """Return the archive of a package, fetched into `cache` unless it is there already.

    Raises:
        UserError: the registry's client is missing or fails, or the archive is not the one
            that was pinned.
    """
    archive = cache / package.file_name
    if not archive.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            download = run or (_npm_pack if package.registry == "npm" else _apt_download)
            fetched = download(package, Path(folder))
            _verify(package, fetched)
            fetched.replace(archive)
    else:
        _verify(package, archive)
    return archive


def read_json(archive: Path, member: str) -> Any:
    """Read one JSON file of an npm archive."""
    with tarfile.open(archive) as tar:
        stream = tar.extractfile(f"package/{member}")
        assert stream is not None, member
        return json.load(stream)


def members(archive: Path, *, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of the files of an npm or Debian archive that end so, in its order."""
    if archive.suffix == ".deb":
        _need("dpkg-deb", archive.name)
        process = subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE
        )
        with process, tarfile.open(fileobj=process.stdout, mode="r|") as tar:
            yield from _files(tar, suffixes)
    else:
        with tarfile.open(archive) as tar:
            yield from _files(tar, suffixes)


def _files(tar: tarfile.TarFile, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    for entry in tar:
        if entry.isfile() and entry.name.endswith(suffixes):
            stream = tar.extractfile(entry)
            assert stream is not None, entry.name
            yield entry.name, stream.read()


def _verify(package: Package, archive: Path) -> None:
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != package.sha256:
        raise UserError(
            f"{package.label}: archive {archive} has SHA-256 {digest}, expected {package.sha256}; "
            "delete it and try again"
        )


def _npm_pack(package: Package, folder: Path) -> Path:
    _need("npm", package.label)
    command = ["npm", "pack", f"{package.name}@{package.version}", "--silent"]
    return _run(package, command, folder, "*.tgz")


def _apt_download(package: Package, folder: Path) -> Path:
    _need("apt-get", package.label)
    command = ["apt-get", "download", f"{package.name}={package.version}"]
    return _run(package, command, folder, "*.deb")


def _run(package: Package, command: list[str], folder: Path, pattern: str) -> Path:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    found = list(folder.glob(pattern))
    if done.returncode or len(found) != 1:
        last = (done.stderr.strip() or done.stdout.strip() or "nothing was fetched").splitlines()[
            -1
        ]
        hint = "; run `apt-get update`; it needs Debian 12" if package.registry == "debian" else ""
        raise UserError(f"{package.label}: `{' '.join(command)}` failed: {last}{hint}")
    return found[0]


def _need(program: str, what: str) -> None:
    if shutil.which(program) is None:
        where = "Node.js" if program == "npm" else "a Debian or Ubuntu system"
        raise UserError(f"{what} needs the program {program}, which comes with {where}")
