"""Hostile pickles, put together opcode by opcode, so that making them runs nothing either."""

import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from random import Random

WANTED = [
    "os system", "posix system", "nt system", "os popen", "os execv", "os.path join", "subprocess Popen",
    "subprocess check_output", "builtins eval", "builtins exec", "__builtin__ eval", "builtins getattr",
    "builtins compile", "builtins open", "builtins __import__", "builtins map", "builtins set",
    "functools partial", "functools reduce", "timeit timeit", "timeit main", "codecs decode",
    "codecs open", "_codecs decode", "operator attrgetter", "operator methodcaller",
    "importlib import_module", "runpy _run_code", "pty spawn", "socket create_connection",
    "urllib.request urlopen", "http.client HTTPSConnection", "shutil rmtree", "pathlib Path",
    "tempfile mkdtemp", "webbrowser open", "ctypes CDLL", "bdb Bdb", "pdb run", "cProfile run",
    "code interact", "pip main", "venv create", "ensurepip bootstrap", "distutils.core setup",
    "marshal loads", "pickle loads", "_pickle loads", "types CodeType", "types FunctionType",
    "sys setrecursionlimit", "asyncio run", "multiprocessing.util spawnv_passfds", "commands getoutput",
    "platform popen", "copyreg _reconstructor", "copy_reg _reconstructor", "copyreg add_extension",
    "_io open", "io open_code", "io BytesIO", "sqlite3 connect", "logging.config listen",
    "zipimport zipimporter", "idlelib.pyshell main", "lib2to3.pgen2.grammar loads", "torch load",
    "torch.serialization load", "torch.jit load", "torch.hub load", "torch.storage _load_from_bytes",
    "torch.utils.cpp_extension load", "torch._utils _rebuild_sparse_tensor",
    "torch._utils _rebuild_tensor_v3", "torch._utils _rebuild_from_type_v2",
    "torch._tensor _rebuild_from_type_v2", "torch.nn.modules.linear Linear",
    "torch._dynamo.guards GuardBuilder.get", "torch.fx.graph_module reduce_graph_module", "numpy load",
    "numpy fromfile", "numpy.testing._private.utils runstring", "numpy.core.multiarray _reconstruct",
    "numpy.f2py.crackfortran myeval", "pandas read_pickle", "joblib load", "dill._dill _load_type",
    "cloudpickle.cloudpickle _make_function", "transformers AutoModel.from_pretrained", "yaml unsafe_load",
    "pytorch_lightning.callbacks.model_checkpoint os.system", "pytorch_lightning.callbacks LambdaCallback",
    "collections OrderedDict.fromkeys", "collections OrderedDict.__init__.__globals__",
    "collections defaultdict", "collections namedtuple", "torch._utils _rebuild_tensor_v2.__globals__",
    "torch FloatStorage.from_file", "torch FloatStorage._new_shared",
    "torch.storage UntypedStorage.from_file", "torch Size.__class__", "numpy dtype.__class__",
    "_codecs encode.__self__", "__main__ Model", "model Net", "sys modules", "torch os.system",
    "torch _utils._rebuild_tensor_v2", "Collections OrderedDict",
]  # fmt: skip


def text(protocol: int, value: str) -> bytes:
    raw = value.encode()
    if protocol == 0:
        return b"V" + value.encode("raw-unicode-escape").replace(b"\n", b"\\u000a") + b"\n"
    return b"X" + struct.pack("<I", len(raw)) + raw if protocol < 4 else b"\x8c" + bytes([len(raw)]) + raw


def number(protocol: int, value: int) -> bytes:
    if protocol == 0:
        return f"L{value}L\n".encode()
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def word(protocol: int, name: str) -> bytes:
    module, attribute = name.rsplit(" ", 1)
    if protocol < 4:
        return f"c{module}\n{attribute}\n".encode()
    return text(protocol, module) + text(protocol, attribute) + b"\x93"


def together(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def mapping(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"d"


def storage(protocol: int, kind: str = "torch FloatStorage", key: str = "0", count: int = 4) -> bytes:
    kept = text(protocol, "storage"), word(protocol, kind), text(protocol, key), text(protocol, "cpu")
    return together(*kept, number(protocol, count)) + b"Q"


def tensor(
    protocol: int,
    *,
    size: tuple[int, ...] = (4,),
    stride: tuple[int, ...] = (1,),
    offset: int = 0,
    kept: bytes = b"",
    hooks: bytes = b")",
) -> bytes:
    args = (
        kept or storage(protocol),
        number(protocol, offset),
        together(*(number(protocol, n) for n in size)),
        together(*(number(protocol, n) for n in stride)),
        number(protocol, 0),
        hooks,
    )
    return word(protocol, "torch._utils _rebuild_tensor_v2") + together(*args) + b"R"


def whole(protocol: int, tree: bytes) -> bytes:
    return (b"\x80" + bytes([protocol]) if protocol > 1 else b"") + tree + b"."


def model(protocol: int, *beside: bytes, within: bytes = b"") -> bytes:
    weights = mapping(text(protocol, "w"), tensor(protocol), within)
    return mapping(text(protocol, "state_dict"), weights, *beside)


def zipped(pickle: bytes, storages: dict[str, bytes] | None = None) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle)
        archive.writestr("archive/version", b"3\n")
        for key, data in ({"0": bytes(16)} if storages is None else storages).items():
            archive.writestr(f"archive/data/{key}", data)
    return file.getvalue()


def legacy(pickle: bytes) -> bytes:
    magic = whole(2, b"\x8a\x0a" + 0x1950A86A20F9469CFC6C.to_bytes(10, "little"))
    system = mapping(text(2, "protocol_version"), number(2, 1001), text(2, "little_endian"), b"\x88")
    pickles = [magic, whole(2, number(2, 1001)), whole(2, system), pickle, whole(2, b"(" + text(2, "0") + b"l")]
    return b"".join(pickles) + (4).to_bytes(8, "little") + bytes(16)


# How a payload asks for its call: protocol, what it wants, pickled argument -> opcodes.
FORMS: dict[str, Callable[[int, str, bytes], bytes]] = {
    "GLOBAL": lambda p, name, arg: word(p, name),
    "GLOBAL and REDUCE": lambda p, name, arg: word(min(p, 3), name) + together(arg) + b"R",
    "STACK_GLOBAL and REDUCE": lambda p, name, arg: word(4, name) + together(arg) + b"R",
    "REDUCE from the memo": lambda p, name, arg: word(p, name) + b"q\x630h\x63" + together(arg) + b"R",
    "INST": lambda p, name, arg: b"(" + arg + "i{}\n{}\n".format(*name.rsplit(" ", 1)).encode(),
    "OBJ": lambda p, name, arg: b"(" + word(p, name) + arg + b"o",
    "NEWOBJ": lambda p, name, arg: word(p, name) + together(arg) + b"\x81",
    "NEWOBJ_EX": lambda p, name, arg: word(p, name) + b")" + mapping(text(p, "args"), arg) + b"\x92",
    "BUILD": lambda p, name, arg: word(p, "collections OrderedDict") + b")R" + mapping(arg, word(p, name)) + b"b",
    "BUILD of a callback": lambda p, name, arg: (
        word(p, "pytorch_lightning.callbacks.model_checkpoint ModelCheckpoint")
        + b")\x81"
        + mapping(text(p, "__setstate__"), word(p, name))
        + b"b"
    ),
    "persistent id": lambda p, name, arg: storage(p, name),
    "backward hooks": lambda p, name, arg: tensor(p, hooks=word(p, name) + together(arg) + b"R"),
    "scalar of numpy": lambda p, name, arg: (
        word(p, "numpy.core.multiarray scalar") + together(word(p, name) + together(arg) + b"R", arg) + b"R"
    ),
}  # fmt: skip

# Where in the file it stands.
PLACES: dict[str, Callable[[int, bytes], bytes]] = {
    "among the weights": lambda p, payload: model(p, within=text(p, "x") + payload),
    "beside the weights": lambda p, payload: model(p, text(p, "callbacks"), payload),
    "instead of the weights": lambda p, payload: payload,
    "thrown away": lambda p, payload: payload + b"0" + model(p),
    "thrown away at the end": lambda p, payload: model(p) + payload + b"0",
    "as a key": lambda p, payload: model(p, payload, number(p, 1)),
    "in a list": lambda p, payload: model(p, text(p, "x"), b"(" + payload + b"l"),
    "before a mark": lambda p, payload: b"(" + payload + b"1" + model(p),
}


def payloads(rng: Random, canary: str) -> Iterator[tuple[str, bytes, tuple[str, ...]]]:
    wanted = [*WANTED * 4]
    rng.shuffle(wanted)
    for form, make in FORMS.items():
        for protocol in range(6):
            for _ in range(5):
                name, place = wanted.pop(), rng.choice(list(PLACES))
                arg = text(protocol, rng.choice([f"touch {canary}", f"open({canary!r}, 'w')", canary]))
                pickle = whole(protocol, PLACES[place](protocol, make(protocol, name, arg)))
                content = rng.choice([zipped, zipped, legacy])(pickle)
                yield f"pickle: {form}", content, (name.replace(" ", "."),)


def extensions(rng: Random) -> Iterator[tuple[str, bytes, tuple[str, ...]]]:
    for opcode, width in (("EXT1", 1), ("EXT2", 2), ("EXT4", 4)):
        for _ in range(4):
            code = bytes([{1: 0x82, 2: 0x83, 4: 0x84}[width]]) + rng.randbytes(width - 1) + b"\x01"
            protocol = rng.randint(2, 5)
            pickle = whole(protocol, PLACES[rng.choice(list(PLACES))](protocol, code + b")R"))
            yield f"pickle: {opcode}", zipped(pickle), (opcode,)


def breakage(rng: Random) -> Iterator[tuple[str, bytes, tuple[str, ...]]]:
    """Pickles that are no pickles, or use opcodes as no pickler would."""
    good = whole(2, model(2))
    for _ in range(25):
        yield "pickle: cut short", zipped(good[: rng.randrange(len(good))]), ("no readable checkpoint",)
    for _ in range(15):
        yield "pickle: noise", zipped(rng.randbytes(rng.randint(1, 200))), ("no readable checkpoint",)
    odd = {
        "nothing on the stack": b"R.", "no mark": b"t.", "no memo entry": b"h\7.", "no tensors": b"}.",
        "a circle": b"}q\0X\1\0\0\0ah\0s.", "a list that holds itself": b"]q\0h\0a.",
        "text persistent id": b"Pcanary\n.", "persistent id of numbers": b"K\1K\2\x86Q.",
        "global without a name": b"K\1K\2\x93.", "buffer": b"\x97.",
        "a tensor is called": tensor(2) + b")R.", "a text is called": text(2, "os.system") + b")R.",
        "a storage is called": storage(2) + b")R.", "odd pairs": b"}(" + text(2, "a") + b"u.",
        "sets": b"\x8f.", "a number of 5,000 digits": b"L" + b"9" * 5000 + b"L\n.",
        "memo entry below zero": b"Np-1\n.", "memo entry 2^61": b"Np2305843009213693951\n.",
        "quotes that do not close": b"S'a\n.", "not ASCII": b"S'\xff'\n.",
        "length 2^63": b"\x8e" + b"\xff" * 7 + b"\x7f.", "text of 2^63": b"\x8d" + b"\xff" * 8 + b".",
        "bytes of 4 GB": b"B\xff\xff\xff\xff.", "frame of 2^64": b"\x95" + b"\xff" * 8 + b"}.",
        "number of 2 GB": b"\x8b\xff\xff\xff\x7f.", "protocol 255": b"\x80\xff.",
        "OrderedDict of pairs":
        word(2, "collections OrderedDict") + b"(((X\1\0\0\0aK\1lltR.",
        "no opcode": b"\xfe.",
    }  # fmt: skip
    for name, pickle in odd.items():
        yield f"pickle: {name}", zipped(pickle), ("no readable checkpoint", "holds no tensors")


def false_tensors(rng: Random) -> Iterator[tuple[str, bytes, tuple[str, ...]]]:
    huge = 1 << 62
    cases = {
        "beyond its storage": tensor(2, size=(5,)), "offset beyond": tensor(2, offset=1),
        "offset below": tensor(2, offset=-1), "stride beyond": tensor(2, size=(2, 2), stride=(3, 1)),
        "negative stride": tensor(2, stride=(-1,), offset=3), "negative size": tensor(2, size=(-4,)),
        "stride 0": tensor(2, size=(1 << 39,), stride=(0,)),
        "stride 0 twice": tensor(2, size=(1 << 19, 1 << 20), stride=(0, 0)),
        "size 2^62": tensor(2, size=(huge,)),
        "sizes that wrap to 4": tensor(2, size=(1 << 32, 1 << 32, 4), stride=(0, 0, 1)),
        "stride 2^62":
        tensor(2, size=(1, 4), stride=(huge, 1)),
        "offset 2^62": tensor(2, offset=huge),
        "no elements, 2^62 wide":
        tensor(2, size=(0, huge), stride=(1, 1)),
        "more sizes than strides": tensor(2, size=(2, 2)),
        "9 dimensions": tensor(2, size=(1,) * 9, stride=(1,) * 9),
        "no such storage": tensor(2, kept=storage(2, key="7")),
        "storage elsewhere": tensor(2, kept=storage(2, key="../../secret")),
        "longer storage": tensor(2, kept=storage(2, count=5)),
        "shorter storage": tensor(2, kept=storage(2, count=3)),
        "wider type": tensor(2, kept=storage(2, "torch DoubleStorage")),
        "storage of -4": tensor(2, kept=storage(2, count=-4)),
        "storage of 2^62": tensor(2, kept=storage(2, count=huge)),
    }  # fmt: skip
    for name, made in cases.items():
        tree = mapping(text(2, "model.weight"), made)
        yield f"pickled tensor: {name}", zipped(whole(2, tree)), ("'model.weight'",)
    for key in ("a.__class__.b", "__init__", "../../x", "a\0b", "a\nb", "a" * 600, "..", ""):
        pickle = whole(2, mapping(text(2, key), tensor(2)))
        yield "pickled tensor: name is a trap", zipped(pickle), (repr(key[:512]), "honest")


def bombs(rng: Random) -> Iterator[tuple[str, bytes, tuple[str, ...]]]:
    """Small files that want much time or memory. `h\\0` is a reference to the first memo entry."""
    many = 290_000
    names = b"".join(b"X\4\0\0\0%04x" % number for number in range(40_000))
    shared = b"(" + b"N" * (many // 2) + b"tq\0"
    long_name = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\0"
    weights = mapping(text(2, "w"), tensor(2))
    memo = b"".join(b"p%d\n" % (n * ((1 << 61) - 1)) for n in range(50_000))
    hashes = b"".join(b"\x8a\x0a" + (n * ((1 << 61) - 1)).to_bytes(10, "little") + b"N" for n in range(1, 100_000))
    cases = {
        "a list of lists of lists": b"]" + (b"q\0(" + b"h\0" * 8 + b"l") * 20_000 + b".",
        "nested dicts": b"}q\0" + b"".join(b"}X\1\0\0\0ah\0sX\1\0\0\0bh\0sq\0" for _ in range(40_000)) + b".",
        "nested tuples": b")" + b"\x85" * many + b".",
        "lists without end": b"]" * (1 << 20) + b".",
        "dicts in the memo": b"}\x94" * (1 << 20) + b".",
        "one name in 48,000 dicts": b"X\1\0\0\0a" + long_name + b"00" + b"}" + b"".join(
            b"X\5\0\0\0%05x}h\0}ss" % n for n in range(48_000)) + b".",
        "a long tuple called 29,000 times": b"cnumpy\ndtype\nq\1" + shared + b"0" + b"h\1h\0R0" * 29_000 + b"}.",
        "a long tuple as a storage": shared + b"Q.",
        "a long tuple as a shape": shared + b"0" + weights.replace(b"(J\4\0\0\0t", b"h\0", 1) + b".",
        "numbers that collide as keys": b"}(" + hashes + b"u.",
        "numbers that collide in the memo": b"N" + memo + b".",
        "40,000 names without tensors": b"}(" + names + b"u.",
        "text of 7 MB, 4 bytes for each letter": b"V\\U0001f600" + b"a" * (7 << 20) + b"\n.",
        "text of 7 MB": b"X" + struct.pack("<I", 7 << 20) + b"a" * (7 << 20) + b".",
        "number of 7 MB": b"\x8b" + struct.pack("<I", 7 << 20) + b"\x7f" * (7 << 20) + b".",
        "digits of 7 MB": b"I" + b"9" * (7 << 20) + b"\n.",
        "pickle of 9 MB": b"0" * (9 << 20) + b".",
        "100,000 marks": b"(" * 100_000 + b"t" * 100_000 + b".",
    }  # fmt: skip
    for name, pickle in cases.items():
        yield f"pickle bomb: {name}", zipped(pickle), ("no readable checkpoint", "holds no tensors", "'w'")


def hostile_pickles(rng: Random, canary: str) -> Iterator[tuple[str, bytes, tuple[str, ...]]]:
    """(class, content, words of which the error holds one)."""
    yield from payloads(rng, canary)
    yield from extensions(rng)
    yield from breakage(rng)
    yield from false_tensors(rng)
    yield from bombs(rng)
