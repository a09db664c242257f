"""Packages of public registries: pinned by their content, fetched by the registries' own clients, kept in a folder."""

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

Registry = Literal["npm", "debian", "pypi"]
CLIENTS: dict[Registry, tuple[str, str, tuple[str, ...]]] = {  # what fetches, how one comes by it, what it is told
    "npm": ("npm", "which comes with Node.js: install that", ("pack", "--ignore-scripts", "--silent")),
    "debian": ("apt-get", "which Debian and its kin have: build there", ("download",)),
    "pypi": (sys.executable, "the interpreter itself", ("-m", "pip", "download", "--no-deps", "--quiet")),
}


@dataclass(frozen=True)
class Package:
    """A file of a registry, pinned by its content."""

    name: str
    version: str
    sha256: str
    registry: Registry = "npm"

    @property
    def file(self) -> str:
        """The name that the client gives to the file."""
        if self.registry == "debian":
            return f"{self.name}_{quote(self.version, safe='+~')}_all.deb".replace("%3A", "%3a")
        if self.registry == "pypi":
            return f"{self.name.replace('-', '_')}-{self.version}-py3-none-any.whl"
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"

    def __str__(self) -> str:
        """As in a list of dependencies: openmoji@17.0.0."""
        return self.name + {"npm": "@", "debian": "=", "pypi": "=="}[self.registry] + self.version


def fetched(package: Package, folder: Path) -> Path:
    """The package's file in `folder`, fetched unless it is there.

    Raises OSError if what fetches it is missing or fails, and ValueError if the file is not the pinned one; each says
    what to do.
    """
    path = folder / package.file
    if not path.is_file():
        _fetch(package, path)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != package.sha256:
        raise ValueError(f"{path} has SHA-256 {found}, not the pinned {package.sha256}; remove it and try again")
    return path


def _fetch(package: Package, path: Path) -> None:
    client, origin, told = CLIENTS[package.registry]
    if shutil.which(client) is None:
        raise OSError(f"fetching {package} needs {client}, {origin}, or put {path} there")
    path.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([client, *told, str(package)], capture_output=True, text=True, check=False, cwd=path.parent)
    if done.returncode or not path.is_file():
        said = done.stderr.strip() or done.stdout.strip()
        raise OSError(f"{Path(client).name} could not fetch {package}: {said}; or put {path} there")
