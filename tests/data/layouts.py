"""The same pictures in each of the layouts that can be read."""

import io
import json
import tarfile

import pyarrow
import pyarrow.parquet

from daguerre.data.config import Data, Source
from daguerre.data.manifest import gather
from tests.data.encoded import noise, saved

COUNT = 6


def picture(i):
    """PNG bytes of picture i, 16 + i % 100 pixels wide."""
    return saved(noise((16 + i % 100, 12), seed=i))


def _row(i):
    return {"text": f"picture {i}", "artist": "Ada", "split": "train" if i % 3 else "val"}


def write_folder(folder, count, first=0):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(first, first + count):
        (folder / f"{i}.png").write_bytes(picture(i))
        (folder / f"{i}.txt").write_text(f"picture {i}\n")
    return folder


def write_table(folder, count, first=0, before=False):
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i in range(first, first + count):
        (folder / f"{i}.png").write_bytes(picture(i))
        row = {"file_name": f"{i}.png", **_row(i)}
        if before:
            (folder / f"before-{i}.png").write_bytes(picture(i + 100))
            row["before"] = f"before-{i}.png"
        lines.append(json.dumps(row))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def write_parquet(folder, count, first=0, before=False):
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(first, first + count):
        row = {"image": {"bytes": picture(i), "path": f"{i}.png"}, **_row(i)}
        rows.append({**row, "before": picture(i + 100)} if before else row)
    path = folder / "pictures.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2)
    return path


def write_tar(folder, count, first=0, before=False):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pictures.tar"
    with tarfile.open(path, "w") as archive:

        def add(name, data):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))

        for i in range(first, first + count):
            add(f"shard/{i:03}.png", picture(i))
            add(f"shard/{i:03}.json", json.dumps(_row(i)).encode())
            if before:
                add(f"shard/{i:03}.before.png", picture(i + 100))
    return path


def manifest_of(*paths, **options):
    cache = options.pop("cache", None)
    others = {k: options.pop(k) for k in ("captions", "others", "at_least") if k in options}
    return gather(Data(sources=tuple(Source(path=p, **options) for p in paths), cache=cache), **others)
