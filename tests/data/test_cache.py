import errno
import logging
import multiprocessing
import os
import resource
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from daguerre.data.cache import HEAD, Cache

FORK = multiprocessing.get_context("fork")


def tensors(i, size=8):
    return {"latents": torch.full((4, size, size), float(i)), "frame": torch.tensor([i, 0])}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def refuse():
    raise AssertionError("made again")


def fill(cache, count=10):
    for i in range(count):
        assert equal(cache.get(f"entry {i}", lambda i=i: tensors(i)), tensors(i))


def read(cache, count=10):
    """How many entries had to be made again."""
    made = []
    for i in range(count):
        assert equal(cache.get(f"entry {i}", lambda i=i: [made.append(i), tensors(i)][1]), tensors(i))
    return len(made)


def packs(folder):
    return sorted(folder.rglob("*.pack"))


def test_what_is_made_once_stays(tmp_path):
    fill(Cache(tmp_path, "vae 1"))
    assert read(Cache(tmp_path, "vae 1", memory=0)) == 0


def test_other_settings_are_another_cache(tmp_path):
    fill(Cache(tmp_path, "vae 1"))
    assert read(Cache(tmp_path, "vae 2")) == 10
    assert read(Cache(tmp_path, "vae 1")) == 0


def test_all_kinds_of_numbers(tmp_path):
    kinds = torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool
    given = {str(kind): torch.tensor([[1, 0, 1]]).to(kind).mT for kind in kinds} | {"none": torch.empty(0, 3)}
    Cache(tmp_path, "").get("a", lambda: given)
    assert equal(Cache(tmp_path, "").get("a", refuse), given)


def test_memory_has_a_limit(tmp_path, monkeypatch):
    cache = Cache(tmp_path, "", memory=1)
    for i in range(20):
        cache.get(str(i), lambda: {"x": torch.zeros(25_000)})  # 0.1 MB
    reads = []
    body = cache._read
    monkeypatch.setattr(cache, "_read", lambda digest: [reads.append(digest), body(digest)][1])
    for i in range(10, 20):
        cache.get(str(i), refuse)
    assert reads == []
    cache.get("3", refuse)
    assert len(reads) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_never_stored(tmp_path, caplog, value):
    cache = Cache(tmp_path, "")
    made = cache.get("a", lambda: {"x": torch.tensor([1.0, value])})
    assert not made["x"].isfinite().all()
    assert "not finite" in caplog.text
    assert equal(cache.get("a", lambda: tensors(1)), tensors(1))
    assert equal(Cache(tmp_path, "").get("a", refuse), tensors(1))


def test_a_change_of_any_byte_is_noticed(tmp_path):
    fill(Cache(tmp_path, ""), 3)
    (pack,) = packs(tmp_path)
    whole = pack.read_bytes()
    for place in range(0, len(whole), 37):
        data = bytearray(whole)
        data[place] ^= 1
        pack.write_bytes(data)
        assert 1 <= read(Cache(tmp_path, ""), 3) <= 3
        for other in packs(tmp_path):
            if other != pack:
                other.unlink()
    pack.write_bytes(whole)
    assert read(Cache(tmp_path, ""), 3) == 0


def test_a_pack_torn_anywhere_loses_only_what_follows(tmp_path):
    fill(Cache(tmp_path, ""), 3)
    (pack,) = packs(tmp_path)
    whole = pack.read_bytes()
    entry = len(whole) // 3
    for end in range(0, len(whole), 53):
        pack.write_bytes(whole[:end])
        assert read(Cache(tmp_path, ""), 3) == 3 - end // entry
        for other in packs(tmp_path):
            if other != pack:
                other.unlink()


def test_a_damaged_entry_is_rebuilt_for_good(tmp_path, caplog):
    fill(Cache(tmp_path, ""), 3)
    (pack,) = packs(tmp_path)
    data = bytearray(pack.read_bytes())
    data[-1] ^= 1
    pack.write_bytes(data)
    assert read(Cache(tmp_path, ""), 3) == 1
    assert "damaged" in caplog.text
    assert read(Cache(tmp_path, ""), 3) == 0


def test_a_pack_that_vanishes_is_made_again(tmp_path):
    cache = Cache(tmp_path, "", memory=0)
    fill(cache)
    for pack in packs(tmp_path):
        pack.unlink()
    assert read(cache) == 10


def test_a_full_disk_is_told_once_and_survived(tmp_path, caplog, monkeypatch):
    cache = Cache(tmp_path, "")
    fill(cache, 2)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "open", full)
    with caplog.at_level(logging.WARNING):
        assert read(cache, 6) == 4
        assert read(cache, 6) == 0  # from memory
    assert caplog.text.count("No space left on device") == 1
    monkeypatch.undo()
    assert read(Cache(tmp_path, ""), 6) == 4


def fill_small_disk(folder):
    """A limit on the size of files stands in for the disk: the write that crosses it is cut short."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
    cache = Cache(folder, "")
    fill(cache)
    assert read(cache) == 0


def test_a_disk_that_is_really_full(tmp_path):
    process = FORK.Process(target=fill_small_disk, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert 0 < read(Cache(tmp_path, "")) < 10


def test_a_process_sees_what_another_has_stored_since(tmp_path):
    one, other = Cache(tmp_path, ""), Cache(tmp_path, "")
    fill(one)
    assert read(other) == 0


def test_what_another_process_is_writing_is_waited_for(tmp_path):
    fill(Cache(tmp_path / "a", ""), 2)
    (pack,) = packs(tmp_path / "a")
    whole = pack.read_bytes()
    cache = Cache(tmp_path / "b", "")
    half = cache.folder / "1-x.pack"
    cache.folder.mkdir(parents=True)
    half.write_bytes(whole[: HEAD.size + 100])
    assert read(cache, 1) == 1
    half.write_bytes(whole)
    assert cache.get("entry 1", refuse) is not None


def work(folder):
    cache = Cache(folder, "", memory=0)
    for i in range(300):
        assert equal(cache.get(str(i), lambda i=i: tensors(i, 16)), tensors(i, 16))


def test_processes_and_threads_at_once(tmp_path):
    processes = [FORK.Process(target=work, args=(tmp_path,)) for _ in range(2)]
    threads = [threading.Thread(target=work, args=(tmp_path,)) for _ in range(2)]
    for each in [*processes, *threads]:
        each.start()
    for each in [*processes, *threads]:
        each.join()
    assert [p.exitcode for p in processes] == [0, 0]
    cache = Cache(tmp_path, "", memory=0)
    for i in range(300):
        assert equal(cache.get(str(i), refuse), tensors(i, 16))


def test_fifteen_hundred_entries_are_quick(tmp_path):
    made = tensors(1, 32)
    begun = time.process_time()
    cache = Cache(tmp_path, "")
    for i in range(1500):
        cache.get(str(i), lambda: made)
    wrote = time.process_time()
    cache = Cache(tmp_path, "")
    for i in range(1500):
        cache.get(str(i), refuse)
    assert wrote - begun < 2
    assert time.process_time() - wrote < 1
