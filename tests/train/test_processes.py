"""Two processes train as one does, by copies of the weights or by shards of them, and go on with each other's files."""

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from daguerre.request import RequestError
from daguerre.train import checkpoint, processes
from daguerre.train.config import Loop, Optimizer
from daguerre.train.processes import Processes
from tests.train.line import state
from tests.train.together import FAST, LAST, STAGE, Command, Denoise, Frugal, Job, Lame, double, work
from tests.train.toys import settings

SHARDED, FAST_SHARDED = (replace(stage, loop=replace(stage.loop, shard=True)) for stage in (STAGE, FAST))
HALF = LAST // 2


def together(folder: Path, jobs: list[Job] | list[Command]) -> None:
    """Has two processes do the jobs, one after the other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, (port, jobs, folder), nprocs=2)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: each by one process or by two, whole or begun by the one and ended by the other."""
    folder = tmp_path_factory.mktemp("runs")
    for job in (
        Job(folder / "one"),
        Job(folder / "one-double", FAST, double),
        Job(folder / "one-lame", STAGE, Lame),
        Job(folder / "one-then-copies", steps=HALF),
    ):
        job.do()
    pair = [
        Job(folder / "copies"),
        Job(folder / "copies-double", FAST, double),
        Job(folder / "copies-frugal", STAGE, Frugal),
        Job(folder / "copies-lame", STAGE, Lame),
        Job(folder / "copies-of-the-first", seed_by_rank=True),
        Job(folder / "one-then-copies"),
        Job(folder / "copies-then-one", steps=HALF),
        Job(folder / "out of time", stop=0.0),
    ]
    together(folder, pair)
    Job(folder / "copies-then-one").do()
    return folder


@pytest.fixture(scope="module")
def sharded(runs: Path) -> Path:
    """The same folder with runs of sharded weights, which take longer: every tensor is sent on its own."""
    Job(runs / "one-then-shards-double", FAST, double, HALF).do()
    pair = [
        Job(runs / "shards", SHARDED),
        Job(runs / "shards-double", FAST_SHARDED, double),
        Job(runs / "shards-frugal", SHARDED, Frugal),
        Job(runs / "shards-of-the-first", SHARDED, seed_by_rank=True),
        Job(runs / "one-then-shards-double", FAST_SHARDED, double),
        Job(runs / "shards-then-one", SHARDED, steps=HALF),
        Job(runs / "shards-then-copies", SHARDED, steps=HALF),
        Job(runs / "shards-then-copies"),
    ]
    together(runs, pair)
    Job(runs / "shards-then-one").do()
    return runs


@pytest.fixture
def folder(way: str, request: pytest.FixtureRequest) -> Path:
    """The folder with the run `way` in it."""
    made: Path = request.getfixturevalue("sharded" if "shards" in way else "runs")
    return made


def ways(*names: str) -> pytest.MarkDecorator:
    """Tests for each of these runs; those with shards are slow."""
    slow = [pytest.mark.slow, pytest.mark.timeout(900)]
    return pytest.mark.parametrize("way", [pytest.param(n, marks=slow if "shards" in n else []) for n in names])


def told(runs: Path, rank: int, way: str) -> list[dict[str, float]]:
    """The records that process `rank` of a run made."""
    return json.loads((runs / f"{way}-told-{rank}.json").read_text())


def furthest(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max((a[name].double() - b[name].double()).abs().max().item() for name in a)


@ways(
    "copies", "copies-of-the-first", "shards", "shards-of-the-first", "one-then-copies", "copies-then-one",
    "shards-then-one", "shards-then-copies",
)  # fmt: skip
def test_weights_are_those_of_one_process(folder, way):
    found, one = state(folder / way), state(folder / "one")
    assert {part: tensors.keys() for part, tensors in found.items()} == {p: t.keys() for p, t in one.items()}
    begun = Denoise().trained.state_dict()
    assert furthest(one["weights"], begun) > 3e-5
    for part in ("weights", "averaged"):
        assert furthest(found[part], one[part]) <= 1e-6
    for name, value in one["optimizer"].items():
        torch.testing.assert_close(found["optimizer"][name], value, rtol=1e-3, atol=1e-6)


@ways("copies-double", "shards-double", "one-then-shards-double")
def test_in_double_precision_nothing_but_rounding_differs(folder, way):
    """At a high rate, with an optimizer that remembers numbers besides tensors."""
    found, one = state(folder / way), state(folder / "one-double")
    assert furthest(one["weights"], double().trained.state_dict()) > 0.01
    for part in ("weights", "averaged", "optimizer"):
        assert furthest(found[part], one[part]) <= 1e-9


def test_layers_without_a_gradient_stay_behind_alike(runs):
    found, one = state(runs / "copies-lame"), state(runs / "one-lame")
    assert torch.equal(found["weights"]["unused.weight"], Lame().trained.unused.weight)
    assert not torch.equal(found["weights"]["rare.weight"], Lame().trained.rare.weight)
    assert furthest(found["weights"], one["weights"]) <= 1e-6


@ways("copies", "shards")
def test_activations_may_be_computed_twice(folder, way):
    torch.testing.assert_close(state(folder / f"{way}-frugal"), state(folder / way), rtol=0, atol=0)


@ways("copies", "shards")
def test_every_process_tells_the_figures_of_the_whole_batch(folder, way):
    one = [json.loads(line) for line in (folder / "one" / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in one if "loss" in line]
    for rank in (0, 1):
        records = told(folder, rank, way)
        assert [record["step"] for record in records] == list(range(1, LAST + 1))
        assert [record["loss"] for record in records] == pytest.approx(losses, rel=1e-5)
        assert {record["first"] for record in records} == {3.0}  # micro-batches of 2 begin at places 0, 2, 4 and 6
    norms = [line["norm"] for line in one if "norm" in line]
    assert [record["norm"] for record in told(folder, 1, way)] == pytest.approx(norms, rel=1e-4)


def test_a_figure_that_one_process_has_is_told_by_all(runs):
    assert {record["rare"] for record in told(runs, 0, "copies-lame")} == {1.0}


@ways("copies", "shards")
def test_one_process_writes(folder, way):
    lines = [json.loads(line) for line in (folder / way / "log.jsonl").read_text().splitlines()]
    one = [json.loads(line) for line in (folder / "one" / "log.jsonl").read_text().splitlines()]
    assert [line.keys() for line in lines] == [line.keys() for line in one]
    assert [line["val"]["1"] for line in lines if "val" in line] == pytest.approx(
        [line["val"]["1"] for line in one if "val" in line], rel=1e-5
    )
    names = {str(path.relative_to(folder / "one")) for path in (folder / "one").rglob("*")}
    assert {str(path.relative_to(folder / way)) for path in (folder / way).rglob("*")} == names
    for sample in (folder / way / "samples").iterdir():
        assert float(sample.read_text()) == pytest.approx(
            float((folder / "one" / "samples" / sample.name).read_text()), abs=1e-3
        )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_whole_run_by_two_processes_gives_the_files_of_one(materials, tmp_path):
    """From pictures to results: one of them prepares and writes, and both learn."""
    calm = Optimizer(learning_rate=1e-2, options={"eps": 1e-2})  # a gradient that is but rounding moves nothing
    commands = {name: settings(name, materials, run=tmp_path / name, optimizer=calm) for name in ("lora", "full")}
    commands["full"] = replace(commands["full"], loop=replace(commands["full"].loop, shard=True))
    together(tmp_path, [Command(run) for run in commands.values()])
    for name, run in commands.items():
        alone = replace(run, run=tmp_path / f"{name}-alone")
        records = Command(alone).do()
        losses = [record["loss"] for record in records if "loss" in record]
        for rank in (0, 1):
            made = told(tmp_path, rank, name)
            assert [r["loss"] for r in made if "loss" in r] == pytest.approx(losses, rel=1e-3)
            assert ("files" in made[-1]) == (rank == 0)
        written = [{path.name for path in (folder / "output").rglob("*")} for folder in (run.run, alone.run)]
        assert len(written[0]) == len(written[1]) > 0
        assert furthest(state(run.run)["averaged"], state(alone.run)["averaged"]) < 1e-4


def test_they_stop_together(runs):
    assert told(runs, 0, "out of time") == told(runs, 1, "out of time") == []
    assert checkpoint.newest(runs / "out of time")[0]["step"] == 0


def test_a_batch_that_cannot_be_shared_is_told():
    for batch, world, near in ((7, 2, 8), (2, 4, 4), (13, 4, 12)):
        message = f"loop.batch is {batch}, which {world} processes cannot share equally; {near} would do"
        with pytest.raises(RequestError, match=message):
            Processes(0, world).share(range(batch))


def test_shares_make_up_the_batch():
    shares = [Processes(rank, 3).share(range(12)) for rank in range(3)]
    assert shares == [range(0, 4), range(4, 8), range(8, 12)]
    assert Processes().share(range(7)) == range(7)


def test_one_process_is_a_group_of_its_own(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with processes.joined("cpu") as device:
        assert device == torch.device("cpu")
        me = processes.here()
    assert me == Processes(0, 1)
    assert me.first
    assert me.averaged({"a": 1.0}) == {"a": 1.0}
    assert me.agreed(choice=True)
    tensor = torch.ones(2)
    assert processes.whole(tensor) is tensor
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.full((2,), 3.0)
    processes.average_gradients([weight])
    assert weight.grad.tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    ("module", "changes", "message"),
    [
        (nn.ModuleDict({"unet": Denoise().trained, "lora": nn.Linear(2, 2)}), {}, r"lora.weight is not part of one"),
        (Denoise().trained, {"name": "prodigy"}, "'prodigy' cannot work on shards"),
        (Denoise().trained, {"precision": "float16"}, "'float16' cannot be scaled on shards"),
    ],
)
def test_what_cannot_be_sharded_is_told(module, changes, message):
    precision = changes.pop("precision", "float32")
    with pytest.raises(RequestError, match=message):
        processes.shard(module, Loop(precision=precision), Optimizer(**changes))
