"""Computed tensors on disk and in memory: latents and text features that a run needs again and again.

Entries lie in pack files, one after another, each with its key, length and checksum before it. Every process appends to
packs of its own and reads those of all, so none waits for another. Nothing is forced to the disk: an entry that a
crash tore or a disk changed fails its checksum and is computed again.
"""

import hashlib
import logging
import os
import secrets
import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import load, save
from torch import Tensor

log = logging.getLogger(__name__)
Tensors = Mapping[str, Tensor]
HEAD = struct.Struct("<4s32sQII")  # magic, key, bytes of the body, CRC-32 of the body, CRC-32 of these
MAGIC = b"dgc1"


class _Place(NamedTuple):
    pack: Path
    start: int
    length: int
    checksum: int


class Cache:
    """Tensors by key, computed once per `settings_key`, which names all else that they depend on.

    `memory` is how many MB of them stay in memory. Callers share what they get and must not write into it.
    """

    def __init__(self, folder: Path, settings_key: str, memory: int = 512):
        self.folder = folder / hashlib.sha256(settings_key.encode()).hexdigest()[:32]
        self._places: dict[bytes, _Place] = {}
        self._scanned: dict[Path, int] = {}  # how far each pack is known
        self._memory: OrderedDict[bytes, Tensors] = OrderedDict()
        self._room = memory * 1_000_000
        self._stores = True
        self._token = secrets.token_hex(4)
        self._lock = threading.Lock()
        with self._lock:
            self._scan()

    def get(self, key: str, make: Callable[[], Tensors]) -> Tensors:
        """The tensors of `key`: from memory, from disk, or from `make`, which is then remembered.

        Tensors that are not finite are passed on but not remembered.
        """
        digest = hashlib.sha256(key.encode()).digest()
        with self._lock:
            found = self._memory.get(digest)
            if found is not None:
                self._memory.move_to_end(digest)
                return found
            found = self._read(digest)
            if found is not None:
                self._remember(digest, found)
                return found
        made = {name: tensor.detach().cpu().contiguous() for name, tensor in make().items()}
        if not all(tensor.isfinite().all() for tensor in made.values() if tensor.is_floating_point()):
            log.warning("%s: not finite, so not cached", key)
            return made
        with self._lock:
            self._store(digest, save(made))
            self._remember(digest, made)
        return made

    def _read(self, digest: bytes) -> Tensors | None:
        if digest not in self._places:
            self._scan()  # another process may have been faster
        place = self._places.pop(digest, None)
        if place is None:
            return None
        try:
            with place.pack.open("rb") as file:
                file.seek(place.start)
                body = file.read(place.length)
        except OSError:
            return None
        if len(body) != place.length or zlib.crc32(body) != place.checksum:
            log.warning("%s is damaged; computing what it held again", place.pack)
            return None
        self._places[digest] = place
        return load(body)

    def _store(self, digest: bytes, body: bytes) -> None:
        if not self._stores:
            return
        pack = self.folder / f"{os.getpid()}-{self._token}.pack"  # a forked process writes one of its own
        begun = HEAD.pack(MAGIC, digest, len(body), zlib.crc32(body), 0)[:-4]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with pack.open("ab", buffering=0) as file:
                start = file.tell()
                record = begun + struct.pack("<I", zlib.crc32(begun)) + body
                if file.write(record) != len(record):
                    raise OSError("the disk took only a part")
        except OSError as error:
            self._stores = False
            log.warning("%s: %s; going on without storing what is computed", pack, error)
            return
        self._places[digest] = _Place(pack, start + HEAD.size, len(body), zlib.crc32(body))
        self._scanned[pack] = start + len(record)

    def _scan(self) -> None:
        """Learns of entries that packs have gained; what another process is still writing is left for later."""
        found = [(pack.stat(), pack) for pack in self.folder.glob("*.pack")]
        for status, pack in sorted(found, key=lambda pair: pair[0].st_mtime_ns):  # what was rebuilt is newer
            at, size = self._scanned.get(pack, 0), status.st_size
            if at >= size:
                continue
            with pack.open("rb") as file:
                while at + HEAD.size <= size:
                    file.seek(at)
                    head = file.read(HEAD.size)
                    magic, digest, length, checksum, own = HEAD.unpack(head)
                    end = at + HEAD.size + length
                    if magic != MAGIC or own != zlib.crc32(head[:-4]) or end > size:
                        break
                    self._places[digest] = _Place(pack, at + HEAD.size, length, checksum)
                    at = end
            self._scanned[pack] = at

    def _remember(self, digest: bytes, tensors: Tensors) -> None:
        self._memory[digest] = tensors
        self._room -= _nbytes(tensors)
        while self._room < 0 and self._memory:
            _, oldest = self._memory.popitem(last=False)
            self._room += _nbytes(oldest)


def _nbytes(tensors: Tensors) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())
