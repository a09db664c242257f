"""Packages of public registries: pinned by their content, fetched by the registries' own clients, kept in a folder."""

import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

Registry = Literal["npm", "debian"]
CLIENTS: dict[Registry, tuple[str, str]] = {  # what fetches, and how one comes by it
    "npm": ("npm", "which comes with Node.js: install that"),
    "debian": ("apt-get", "which Debian and its kin have: build there"),
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
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"

    def __str__(self) -> str:
        """As in a list of dependencies: openmoji@17.0.0."""
        return f"{self.name}={self.version}" if self.registry == "debian" else f"{self.name}@{self.version}"


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
    client, origin = CLIENTS[package.registry]
    if shutil.which(client) is None:
        raise OSError(f"fetching {package} needs {client}, {origin}, or put {path} there")
    options = {"npm": ["pack", str(package), "--ignore-scripts", "--silent"], "debian": ["download", str(package)]}
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [client, *options[package.registry]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=path.parent)
    if done.returncode or not path.is_file():
        raise OSError(f"{client} could not fetch {package}: {done.stderr.strip() or done.stdout.strip()}")
