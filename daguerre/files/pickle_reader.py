"""Reads PyTorch's pickled checkpoints (`.ckpt`, `.pt`, `.bin`) without a pickle machine: they run no code.

The opcodes build only dicts, lists, tuples, numbers, texts and the three records below. A global outside
the table is an error; one inside it stays a word, never imported, and a call of it makes a record. Tensors
are views into the memory-mapped file. Constants, never numbers in the file, bound time and memory.
"""

import io
import math
import mmap
import pickletools
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .checkpoint import Checkpoint, CheckpointError, TensorInfo
from .safetensors_header import DOWNLOAD_AGAIN, MAX_KEY, are_counts, check_key, is_shape

MAX_PICKLE = 8 << 20  # bytes; Stable Diffusion 1.4 with its averaged copy has 0.3 MB
MAX_OPCODES = 300_000  # bounds objects, memo and nesting; the same file has about 60,000
MAX_DIRECTORY = 2 << 20  # bytes of a zip's list of files, about 30,000 of them
MAX_INDEX = 1 << 16  # a key of a dict that is a number: the width of a hypernetwork's layer
MAX_SETTING = 1000  # characters or numbers of a value beside the tensors
LEGACY = 0x1950A86A20F9469CFC6C, 1001  # magic number and version of files from before PyTorch 1.6
REMEDY = "Get this model as a safetensors file, or convert it to one where you trust it"

STORAGES = {
    "torch DoubleStorage": torch.float64, "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16, "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64, "torch IntStorage": torch.int32, "torch ShortStorage": torch.int16,
    "torch CharStorage": torch.int8, "torch ByteStorage": torch.uint8, "torch BoolStorage": torch.bool,
}  # fmt: skip
CALLS = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"}
BYSTANDERS = {  # what training loops leave beside the weights
    "pytorch_lightning.callbacks.model_checkpoint ModelCheckpoint", "numpy.core.multiarray scalar",
    "numpy._core.multiarray scalar", "numpy dtype", "_codecs encode", "torch Size",
}  # fmt: skip
GLOBALS = CALLS | BYSTANDERS | STORAGES.keys()
LITERALS = {"NONE"} | {
    code.name for code in pickletools.opcodes if code.arg and code.stack_after not in ([], [pickletools.anyobject])
}
OPERANDS = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "APPEND": 1, "SETITEM": 2}  # others: back to the mark

_END, _LOCAL = struct.Struct("<4sIHHIIH"), struct.Struct("<4sHHH16xHH")
_ZIP64 = struct.Struct("<4s36xQQ8xQ4x")  # the long form of _END and what locates it
_FLAGS = 0x0808  # UTF-8 names, and sizes repeated after the data
_MEMBER = re.compile(r"([^/\\]*[^/\\.])/(data\.pkl|version|byteorder|\.\w+|\.data/\w+|data/\d+)", re.ASCII)

# Warning: of codecs that pickletools uses, where warnings are errors
BROKEN = ValueError, LookupError, TypeError, NotImplementedError, Warning, struct.error, zipfile.BadZipFile
Places = dict[str, tuple[int, int]]  # storage key -> first byte in the file, length in bytes


@dataclass(frozen=True, slots=True)
class _Word:
    """A global by its module and name: what a pickle machine would import."""

    text: str


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: torch.dtype
    count: int  # elements


@dataclass(frozen=True, slots=True)
class _View:
    storage: _Storage
    offset: int  # elements, as the strides
    size: tuple[Any, ...]
    stride: tuple[Any, ...]


def open_pickle(path: Path) -> Checkpoint:
    """The tensors of `state_dict`, or of the whole if there is none; an inner dict's as `outer.inner`."""
    try:
        with path.open("rb") as file:  # a private mapping: a tensor may be written to, the file never is
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        tree, places = _read_zip(path, mapped) if mapped[:2] == b"PK" else _read_legacy(mapped)
    except BROKEN as fault:
        reason = str(fault)[:300] if isinstance(fault, ValueError) else "its structure is broken; download it again"
        raise CheckpointError(path, f"no readable checkpoint: {reason}", remedy=REMEDY) from None
    views = _named_views(path, tree)
    if not views:
        raise CheckpointError(path, "holds no tensors", remedy=REMEDY)
    for key, view in views.items():
        if wrong := _misfit(view, places):
            raise CheckpointError(path, wrong, key=key, remedy=DOWNLOAD_AGAIN)

    def fetch(key: str) -> Tensor:
        view = views[key]
        if not math.prod(view.size):
            return torch.empty(view.size, dtype=view.storage.dtype)
        start, _ = places[view.storage.key]
        whole = torch.frombuffer(mapped, dtype=view.storage.dtype, count=view.storage.count, offset=start)
        return whole.as_strided(view.size, view.stride, view.offset)

    tensors = {key: TensorInfo(view.size, view.storage.dtype) for key, view in views.items()}
    return Checkpoint(path, tensors, fetch, (path,), configs={"pickle": _settings(tree)})


def _named_views(path: Path, tree: Any) -> dict[str, _View]:
    if isinstance(tree, dict) and isinstance(tree.get("state_dict"), dict):
        tree = tree["state_dict"]
    views: dict[str, _View] = {}
    pending, seen = [("", tree)], set()
    for prefix, branch in pending:  # grows while it is read; `seen` ends circles
        if not isinstance(branch, dict) or id(branch) in seen or len(prefix) > MAX_KEY:
            continue
        seen.add(id(branch))
        for name, value in branch.items():
            key = prefix + name[: MAX_KEY + 1]  # one long name may stand in 100,000 dicts
            if isinstance(value, _View):
                check_key(path, key)
                views[key] = value
            elif isinstance(value, dict):
                pending.append((f"{key}.", value))
            elif isinstance(value, tuple) and all(isinstance(item, dict) for item in value):
                pending += [(f"{key}.{i}.", item) for i, item in enumerate(value)]
    return views


def _settings(tree: Any) -> dict[str, Any]:
    """The numbers, texts and lists of numbers that stand beside the tensors."""

    def is_number(value: object) -> bool:
        return isinstance(value, float) or (isinstance(value, int) and abs(value) < 1 << 63)

    def is_setting(value: object) -> bool:
        if isinstance(value, list):
            return len(value) <= MAX_SETTING and all(is_number(item) for item in value)
        return len(value) <= MAX_SETTING if isinstance(value, str) else is_number(value)

    return {key: value for key, value in tree.items() if is_setting(value)} if isinstance(tree, dict) else {}


def _misfit(view: _View, places: Places) -> str | None:
    """What is wrong with a tensor's place in its storage; None if all of it lies inside."""
    storage, size, stride = view.storage, view.size, view.stride
    if storage.count * storage.dtype.itemsize != places.get(storage.key, (0, -1))[1]:
        return f"its storage {storage.key[:100]!r} is missing or not as long as the tensor says"
    if not is_shape(size) or len(size) != len(stride) or not are_counts((view.offset, *stride)):
        return "no tensor has such a shape"
    count = math.prod(size)
    last = view.offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    # A stride of 0 could make terabytes of one number, so no view may be larger than its storage.
    if count > storage.count or (count and last >= storage.count):
        return f"it reaches beyond the {storage.count:,} elements of its storage"
    return None


class _Walker:
    """Follows the opcodes of one pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, _Storage] = {}

    def walk(self, stream: io.BytesIO) -> Any:
        for count, (opcode, arg, _) in enumerate(pickletools.genops(stream)):
            if count > MAX_OPCODES:
                raise ValueError(f"its pickle has more than {MAX_OPCODES:,} opcodes; no model needs so many")
            if opcode.name in LITERALS:
                self.stack.append(arg)
            elif opcode.name != "STOP":
                self._step(opcode.name, arg)
        return self.stack.pop()

    def _step(self, opcode: str, arg: Any) -> None:
        stack = self.stack
        match opcode:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self.marks.append(stack)
                self.stack = []
            case "POP" | "BUILD":  # the state of an object that is never made
                stack.pop()
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode == "NEWTRUE")
            case "EMPTY_LIST" | "EMPTY_TUPLE" | "EMPTY_DICT":
                stack.append({"EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict}[opcode]())
            case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3" | "LIST" | "DICT":
                items = self._operands(opcode)
                made = _text_keyed(items) if opcode == "DICT" else items if opcode == "LIST" else tuple(items)
                self.stack.append(made)
            case "APPEND" | "APPENDS" | "SETITEM" | "SETITEMS":
                items = self._operands(opcode)
                if isinstance(target := self.stack[-1], dict):
                    target.update(_text_keyed(items))
                elif isinstance(target, list):
                    target += items
            case "PUT" | "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                place = len(self.memo) if opcode == "MEMOIZE" else arg
                if not 0 <= place <= MAX_OPCODES:  # large numbers could be chosen so that their hashes collide
                    raise ValueError("its pickle numbers what it remembers strangely")
                self.memo[place] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[arg])
            case "GLOBAL":
                stack.append(_word(*arg.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_word(module, name))
            case "REDUCE" | "NEWOBJ":
                args, called = stack.pop(), stack.pop()
                stack.append(_record(called, args))
            case "BINPERSID":
                storage = _storage(stack.pop())
                self.storages[storage.key] = storage
                stack.append(storage)
            case _:
                named = f" of {arg[:100].replace(' ', '.', 1)!r}" if isinstance(arg, str) else ""
                raise ValueError(f"its pickle uses the opcode {opcode}{named}, which no model needs")

    def _operands(self, opcode: str) -> list[Any]:
        if count := OPERANDS.get(opcode):
            items = self.stack[-count:]
            del self.stack[-count:]
        else:
            items, self.stack = self.stack, self.marks.pop()
        return items


def _text_keyed(items: list[Any]) -> dict[str, Any]:
    """The pairs with a text as key, or a small number, which becomes one: chosen numbers could make hashes collide."""
    pairs = zip(items[::2], items[1::2], strict=True)
    return {
        str(key): value for key, value in pairs if isinstance(key, str) or (type(key) is int and 0 <= key < MAX_INDEX)
    }


def _word(module: object, name: object) -> _Word:
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError("its pickle wants to import something without a name")
    if (text := f"{module} {name}") not in GLOBALS:
        raise ValueError(f"its pickle wants to import {f'{module[:80]}.{name[:80]}'!r}, which could run code")
    return _Word(text)


def _record(called: object, args: object) -> Any:
    """What a call stands for. No argument is copied: one may be long and stand in 100,000 calls."""
    match called, args:
        case _Word(name), _ if name in BYSTANDERS:
            return called
        case _Word("collections OrderedDict"), ():
            return {}
        case _Word("torch._utils _rebuild_parameter"), (_View() as view, _, _):
            return view
        case _Word(), (_Storage() as storage, int(offset), tuple(size), tuple(stride), _, _):
            return _View(storage, offset, size, stride)
    raise ValueError("its pickle makes a call that no tensor needs")


def _storage(description: object) -> _Storage:
    if isinstance(description, tuple) and description[5:] == (None,):  # the legacy form: no view of a storage
        description = description[:5]
    match description:
        case ("storage", _Word(kind), str(key), str(), int(count)) if kind in STORAGES:
            return _Storage(key, STORAGES[kind], count)
    raise ValueError("its pickle describes a storage in an unknown way")


def _read_legacy(data: mmap.mmap) -> tuple[Any, Places]:
    """The form without a zip: pickles (magic, version, system, tree, storage keys), then the storages."""
    stream = io.BytesIO(data[:MAX_PICKLE])
    magic, version, system = (_Walker().walk(stream) for _ in range(3))
    if (magic, version) != LEGACY or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("it is neither a zip nor PyTorch's older form, or of a big-endian machine")
    walker, places = _Walker(), Places()
    tree, keys = walker.walk(stream), _Walker().walk(stream)
    place = stream.tell()
    for key in keys:
        storage = walker.storages[key]
        if int.from_bytes(data[place : place + 8], "little") != storage.count:
            raise ValueError("its storages are not where they should be; download it again")
        places[key] = place + 8, storage.count * storage.dtype.itemsize
        place = sum(places[key])
    if place != len(data):
        raise ValueError(f"it has {len(data):,} bytes and should have {place:,}; download it again")
    return tree, places


def _read_zip(path: Path, data: mmap.mmap) -> tuple[Any, Places]:
    members = _members(path, data)
    start, length, checksum = members["data.pkl"]
    if length > MAX_PICKLE:
        raise ValueError(f"its data.pkl has {length:,} bytes, {MAX_PICKLE:,} are allowed")
    raw = data[start : start + length]
    if zlib.crc32(raw) != checksum:
        raise ValueError("its data.pkl is damaged (wrong checksum); download it again")
    if "byteorder" in members and data[(order := members["byteorder"][0]) : order + 6] != b"little":
        raise ValueError("it is of a big-endian machine")
    places = {name[5:]: place[:2] for name, place in members.items() if name.startswith("data/")}
    return _Walker().walk(io.BytesIO(raw)), places


def _members(path: Path, data: mmap.mmap) -> dict[str, tuple[int, int, int]]:
    """First byte, length and CRC-32 of each file in a zip; refuses what can be read in two ways."""
    directory = _directory(data)
    with zipfile.ZipFile(path) as archive:
        entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
    found: dict[str, tuple[int, int, int]] = {}
    roots, place = set(), 0
    for entry in entries:
        name = entry.orig_filename
        part = _MEMBER.fullmatch(name)
        if not part or part[2] in found:
            raise ValueError(f"its zip holds {name[:100]!r}, twice or without a place in a checkpoint")
        plain = entry.compress_type == 0 and entry.compress_size == entry.file_size
        if not plain or entry.flag_bits & ~_FLAGS:
            raise ValueError(f"{name[:100]!r} in its zip is compressed or encrypted; torch.save never does so")
        start = entry.header_offset
        mark, _, flags, method, name_length, extra_length = _LOCAL.unpack_from(data, start)
        first = start + _LOCAL.size
        same_name = data[first : first + name_length] == name.encode()
        first += name_length + extra_length
        if mark != b"PK\3\4" or flags != entry.flag_bits or method or not same_name or start < place:
            raise ValueError(f"{name[:100]!r} in its zip is described in two ways or overlaps another file")
        place = first + entry.file_size
        found[part[2]] = first, entry.file_size, entry.CRC
        roots.add(part[1])
    if place > directory or len(roots) != 1 or "data.pkl" not in found:
        raise ValueError("its zip is damaged or not one folder with a data.pkl")
    return found


def _directory(data: mmap.mmap) -> int:
    """Where a zip's directory begins; zipfile alone would search for one, and read it whatever its length."""
    end = len(data) - _END.size
    mark, disks, _, _, length, start, comment = _END.unpack_from(data, end)
    sound = mark == b"PK\5\6" and not disks and not comment
    if end >= _ZIP64.size and data[end - 20 : end - 16] == b"PK\6\7":
        end, short = end - _ZIP64.size, (length, start)
        mark, length, start, place = _ZIP64.unpack_from(data, end)
        full = 0xFFFFFFFF  # says in the old record: see the long one
        sound &= mark == b"PK\6\6" and place == end and short == (min(length, full), min(start, full))
    if not sound or start + length != end or length > MAX_DIRECTORY:
        raise ValueError("it is no zip, or one that was cut short or altered; download it again")
    return int(start)
