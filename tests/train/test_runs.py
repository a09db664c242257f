"""Runs of every recipe at toy size, from a model file and pictures to files that work."""

import hashlib
import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from daguerre.adapters.config import LoRAConfig
from daguerre.adapters.formats import load_lora
from daguerre.adapters.textual_inversion import TextualInversion
from daguerre.data.config import Source
from daguerre.families.loading import load_model
from daguerre.families.model import Model
from daguerre.request import RequestError
from daguerre.train import checkpoint, loop, runs
from daguerre.train.config import DreamBooth, Full, Inversion, Loop, Output
from daguerre.train.drawing import drawn
from tests.train.line import journal, same, state
from tests.train.toys import settings, train_slowly

RECIPES = "full", "lora", "dreambooth", "inversion", "inpaint", "edit"


def digests(model: Model) -> dict[str, str]:
    """A sum of each parameter, by native name."""
    named = {f"{part}.{k}": v for part, module in model.parts.items() for k, v in module.state_dict().items()}
    return {name: hashlib.sha256(value.numpy().tobytes()).hexdigest() for name, value in named.items()}


def load(path: Path | str) -> Model:
    return load_model(path, device="cpu", dtype="float32")


def picture(model: Model, prompt: str = "a photo of zwx") -> torch.Tensor:
    wanted = {"width": 64, "height": 64, "steps": 1, "cfg_scale": 1.0, "seed": 1}
    return drawn(model, replace(model.defaults, prompt=prompt, **wanted))[0]


@pytest.fixture(autouse=True)
def no_report(request, monkeypatch):
    """Curves take most of a toy run's time."""
    if "finished" not in request.fixturenames:
        monkeypatch.setattr("daguerre.train.report.write_report", lambda run: None)


def files_of(records: list[dict]) -> list[Path]:
    return [Path(path) for path in records[-1]["files"]]


@pytest.fixture(scope="module")
def finished(materials, tmp_path_factory):
    """A finished run of a recipe, made once: its settings, records, and sums of the base's weights afterwards."""
    made = {}

    def finish(recipe: str):
        if recipe not in made:
            run = settings(recipe, materials, run=tmp_path_factory.mktemp(recipe) / "run")
            run = replace(run, loop=replace(run.loop, sample_every=4))
            bases = []
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    runs, "base_model", lambda run, inner=runs.base_model: bases.append(inner(run)) or bases[0]
                )
                records = list(runs.train(run))
            made[recipe] = run, records, digests(bases[0])
        return made[recipe]

    return finish


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_tells_and_leaves_what_it_should(finished, recipe):
    run, records, _ = finished(recipe)
    assert {"doing", "done", "of"} == records[0].keys()
    told = [record for record in records if "loss" in record]
    assert [record["step"] for record in told] == [1, 2, 3, 4]
    assert [list(record.get("val", {})) for record in told] == [[], ["0.05", "0.25", "0.5", "0.75", "0.95"]] * 2
    assert told[1]["val"] != told[3]["val"]
    assert [line["step"] for line in journal(run.run)] == [1, 2, 2, 3, 4, 4]
    names = {path.name for path in run.run.iterdir()}
    assert names >= {
        "config.toml",
        "data.json",
        "log.jsonl",
        "report.html",
        "samples",
        "step-00000002",
        "step-00000004",
    }
    with Image.open(run.run / "samples" / "step-00000004.png") as strip:
        assert strip.size == (64, 64)
    assert json.loads((run.run / "data.json").read_text())["kept"] == 4 + 2 * (recipe == "dreambooth")
    assert runs.settings_of(run.run) == run


@pytest.mark.parametrize("recipe", ["full", "inpaint", "edit"])
def test_a_trained_model_loads_and_draws_otherwise(finished, materials, recipe):
    run, records, _ = finished(recipe)
    (path,) = files_of(records)
    model, base = load(path), load(materials / "base.safetensors")
    assert model.family.name == {"full": "sd1"}.get(recipe, f"sd1-{recipe}")
    assert model.unet.config.channels_in == {"full": 4, "inpaint": 9, "edit": 8}[recipe]
    averaged = state(run.run)["averaged"]
    assert all(torch.equal(value, averaged[f"unet.{name}"]) for name, value in model.unet.state_dict().items())
    now, before = digests(model), digests(base)
    assert {name for name in before if now[name] == before[name]} == {n for n in before if not n.startswith("unet.")}
    assert not torch.equal(picture(model), picture(base))


@pytest.mark.parametrize("recipe", ["lora", "dreambooth", "inversion"])
def test_what_was_learned_loads_and_changes_pictures_and_the_base_is_as_it_was(finished, materials, recipe):
    _, records, after = finished(recipe)
    base = load(materials / "base.safetensors")
    assert digests(base) == after
    (path,) = files_of(records)
    before = picture(base)
    if recipe == "inversion":
        attached = TextualInversion.load(path, base).attach(base)
    else:
        adapter, report = load_lora(path, base)
        assert report.matched
        attached = adapter.attach(base)
    with attached as model:
        assert not torch.equal(picture(model or base), before)
    assert torch.equal(picture(base), before)


def test_only_what_the_patterns_name_is_trained(materials, tmp_path):
    full = Full(train=("unet.mid_*", "text.layers.1.*"), frozen=("*.bias",))
    (path,) = files_of(list(runs.train(settings("full", materials, run=tmp_path, full=full))))
    before, now = digests(load(materials / "base.safetensors")), digests(load(path))
    wanted = {n for n in before if n.startswith(("unet.mid_", "text.layers.1.")) and not n.endswith(".bias")}
    assert {name for name in before if now[name] != before[name]} == wanted


def test_the_text_encoder_learns_by_lora(materials, tmp_path):
    run = settings("lora", materials, run=tmp_path, lora=LoRAConfig(rank=2, text=True, dropout=0.2))
    list(runs.train(run))
    moved = [name for name, value in state(tmp_path)["averaged"].items() if "text" in name and value.any()]
    assert any("up" in name for name in moved)


@pytest.fixture
def abandoned(monkeypatch):
    """Makes some steps of a run and goes away without a word."""

    def abandon(records, steps: int) -> None:
        told = (record for record in records if "loss" in record)
        assert len(list(islice(told, steps))) == steps
        with monkeypatch.context() as patch:
            patch.setattr(loop._State, "save", lambda self, run: None)  # which closing would do
            records.close()

    return abandon


@pytest.mark.parametrize("recipe", ["lora", "full", "inversion", "inpaint", "edit"])
def test_a_run_goes_on_without_its_recipe_as_if_unbroken(materials, tmp_path, abandoned, recipe):
    lora = LoRAConfig(rank=2, text=True, dropout=0.2)
    run = settings(recipe, materials, run=tmp_path / "unbroken", lora=lora)
    run = replace(run, loop=replace(run.loop, ema=0.9))
    list(runs.train(run))
    abandoned(runs.train(replace(run, run=tmp_path / "broken")), 3)
    records = [record for record in runs.resume(tmp_path / "broken") if "loss" in record]
    assert [record["step"] for record in records] == [3, 4]
    same(tmp_path / "broken", tmp_path / "unbroken")
    assert checkpoint.newest(tmp_path / "broken")[0]["exact"] is True


def test_a_finished_run_goes_on_when_more_steps_are_asked_for(materials, tmp_path):
    run = settings("lora", materials, run=tmp_path / "run")
    list(runs.train(run))
    longer = replace(run, loop=replace(run.loop, steps=6))
    assert [r["step"] for r in runs.train(longer) if "loss" in r] == [5, 6]
    list(runs.train(replace(longer, run=tmp_path / "at once")))
    same(tmp_path / "run", tmp_path / "at once")


def test_a_changed_run_is_refused_by_name_and_accepted_with_a_mark(materials, tmp_path):
    run = settings("lora", materials, run=tmp_path)
    list(runs.train(run))
    free = replace(run, samples=replace(run.samples, prompts=("another",)), loop=replace(run.loop, steps=5, keep=4))
    assert [r["step"] for r in runs.train(free) if "loss" in r] == [5]
    changed = {
        "data.flip was True and is False": replace(run, data=replace(run.data, flip=False)),
        "seed was 0 and is 1": replace(run, seed=1),
        "loop.batch was 2 and is 3": replace(run, loop=replace(run.loop, batch=3)),
        "optimizer.learning_rate was 0.01 and is 0.02": replace(
            run, optimizer=replace(run.optimizer, learning_rate=0.02)
        ),
        "pictures was": replace(run, data=replace(run.data, sources=(Source(path=materials / "pictures", repeats=2),))),
        "base was": replace(run, base="tintype"),
    }
    for told, other in changed.items():
        with pytest.raises(RequestError, match=f"was begun otherwise: .*{told}"):
            list(runs.train(replace(other, lora=replace(run.lora))))
    assert runs.settings_of(tmp_path) == free  # refused changes leave no trace
    other = replace(changed["seed was 0 and is 1"], loop=replace(run.loop, steps=6))
    (path,) = files_of(list(runs.train(other, allow_changes=True)))
    assert checkpoint.newest(tmp_path)[0]["exact"] is False
    assert runs.settings_of(tmp_path).seed == 1
    with safe_open(path, "pt") as file:
        assert "false" in json.dumps(file.metadata())


@pytest.mark.parametrize(("module", "name"), [(torch, "__version__"), (torch, "get_num_threads"), (runs, "version")])
def test_other_software_and_threads_are_refused_by_name(materials, tmp_path, monkeypatch, module, name):
    run = settings("lora", materials, run=tmp_path)
    records = runs.train(run)
    next(record for record in records if "loss" in record)
    records.close()
    other = "2.99.0" if name == "__version__" else lambda *of: 77
    monkeypatch.setattr(module, name, other)
    told = {"__version__": "torch", "get_num_threads": "threads", "version": "daguerre"}[name]
    with pytest.raises(RequestError, match=f"begun otherwise: {told} was .* and is ('2.99.0'|77)"):
        list(runs.train(run))


def test_a_second_process_is_refused(materials, tmp_path, forkserver):
    run = settings("lora", materials, run=tmp_path, loop=Loop(steps=100_000, batch=2, save_every=1000))
    ours, theirs = forkserver.Pipe()
    process = forkserver.Process(target=train_slowly, args=(run, theirs))
    process.start()
    try:
        assert ours.recv() == 1
        for again in (runs.train(run), runs.resume(tmp_path)):
            with pytest.raises(RequestError, match="is being trained by another process"):
                next(again)
    finally:
        process.kill()
        process.join()
    assert next(runs.train(run))["doing"] == "checking pictures"  # the lock went with the process


def losses(run) -> list[float]:
    return [line["loss"] for line in journal(run.run) if "loss" in line]


def test_a_batch_in_pieces_in_less_memory_and_in_half_precision(materials, tmp_path):
    plain = settings("full", materials, run=tmp_path / "plain")
    plain = replace(plain, loop=replace(plain.loop, batch=4, steps=3, validate_every=1000))
    changes = {
        "checkpointing": {"checkpointing": True},
        "pieces": {"accumulate": 3},
        "bfloat16": {"precision": "bfloat16"},
        "float16": {"precision": "float16"},
    }
    made = {name: replace(plain, run=tmp_path / name, loop=replace(plain.loop, **c)) for name, c in changes.items()}
    for run in (plain, *made.values()):
        list(runs.train(run))
    assert losses(made["checkpointing"]) == losses(plain)
    assert losses(made["pieces"]) == pytest.approx(losses(plain), rel=1e-3)
    for name in ("bfloat16", "float16"):
        assert losses(made[name]) != losses(plain)
        assert losses(made[name])[0] == pytest.approx(losses(plain)[0], rel=0.01)
        assert losses(made[name])[-1] < 0.8 * losses(made[name])[0]
        assert {v.dtype for v in state(tmp_path / name)["weights"].values()} == {torch.float32}


def test_pictures_of_the_class_are_drawn_once_and_weigh_as_told(finished, monkeypatch):
    run, _, _ = finished("dreambooth")
    drawn_first = {path: path.stat().st_mtime_ns for path in (run.run / "class-pictures").iterdir()}
    assert [path.name for path in sorted(drawn_first)] == ["00000.png", "00001.png"]
    monkeypatch.setattr(runs, "text_to_image", None)
    assert "files" in list(runs.train(run))[-1]
    assert {path: path.stat().st_mtime_ns for path in (run.run / "class-pictures").iterdir()} == drawn_first
    manifest = runs._exhausted(runs._gathered(replace(run, dreambooth=replace(run.dreambooth, prior_weight=0.5))))
    told = {(e.caption, e.weight, e.repeats) for e in manifest.entries if "class-pictures" in e.name}
    assert told == {("a ball", 0.5, 2.0)}  # four pictures of the subject, two of the class: as many of each are seen


def test_every_layout_is_written(materials, tmp_path):
    output = Output(layouts=("kohya", "peft"), name="ball", author="me", description='a "ball"\n')
    run = settings("lora", materials, run=tmp_path, output=output)
    paths = files_of(list(runs.train(run)))
    assert [path.name for path in paths] == ["ball.safetensors", "ball-peft"]
    base = load(run.base)
    first, second = (load_lora(path, base)[0] for path in paths)
    for (path, a), (other, b) in zip(first.deltas(base), second.deltas(base), strict=True):
        assert path == other
        torch.testing.assert_close(a, b)
    assert "files" in list(runs.train(run))[-1]  # again, over those that are there


@pytest.mark.parametrize(
    ("recipe", "changes", "told"),
    [
        ("full", {"full": Full(train=("unett.*",))}, "'unett.*' names no parameter; they begin with text, unet, vae"),
        ("full", {"full": Full(frozen=("unet.*",))}, "leave nothing to train"),
        ("full", {"full": Full(train=("vae.*",))}, "or the VAE, which recipe 'scratch' trains"),
        ("dreambooth", {"dreambooth": DreamBooth()}, "dreambooth.prompt is missing"),
        ("inversion", {"inversion": Inversion()}, "inversion.word is missing"),
        ("inversion", {"inversion": Inversion(word="zwx")}, "no caption says 'zwx'"),
        ("lora", {"loop": Loop(batch=2, accumulate=3)}, "loop.accumulate is 3"),
        ("lora", {"output": Output(layouts=("ldm",))}, "output.layouts: 'ldm' is none of kohya"),
    ],
)
def test_what_cannot_be_is_refused_kindly(materials, tmp_path, recipe, changes, told):
    with pytest.raises(RequestError, match=told.replace("*", r"\*")):
        list(runs.train(settings(recipe, materials, run=tmp_path, **changes)))
    assert not list(tmp_path.glob("step-*"))


def test_a_folder_without_a_run_cannot_go_on(tmp_path):
    with pytest.raises(RequestError, match=r"holds no run: there is no config\.toml in it"):
        next(runs.resume(tmp_path))


def test_bad_pictures_are_told_before_the_first_step(materials, tmp_path, caplog):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in (materials / "pictures").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "torn.png").write_bytes((folder / "red.png").read_bytes()[:100])
    (folder / "torn.txt").write_text("a torn ball")
    (folder / "blue.txt").unlink()
    run = settings("lora", materials, run=tmp_path / "run")
    run = replace(run, data=replace(run.data, sources=(Source(path=folder),)))
    records = runs.train(run)
    next(record for record in records if "loss" in record)
    records.close()
    told = json.loads((run.run / "data.json").read_text())
    assert (told["kept"], sorted(Path(drop["name"]).name for drop in told["dropped"])) == (3, ["blue.png", "torn.png"])
    assert "torn.png is left out" in caplog.text
