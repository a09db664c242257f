"""Drawing into a folder: by cost, once, and on from where it stopped."""

from dataclasses import replace

import pytest
from PIL import Image

from daguerre import RequestError, TextToImage, text_to_image
from daguerre.adapters.adapted import AdapterFile
from daguerre.generate.drawing import Picture
from daguerre.generate.explore.cells import Begun, Done, draw_cells, in_order_of_cost
from daguerre.generate.explore.job import Job, Setup
from daguerre.generate.explore.plan import plan_grid
from daguerre.provenance import png
from tests.toy import toy

BASE = Job(TextToImage(prompt="a red apple", steps=1, width=64, height=64, seed=7, cfg_scale=1))


class Loads(list):
    """Loads toy models whose weights hang on their names, and remembers which."""

    def __init__(self, change=0):
        self.change = change

    def __call__(self, setup):
        self.append(setup.model)
        seed = len(setup.model) + self.change
        return toy(seed=seed, sha256=f"{seed}")


def pixels(path):
    return png.read(path)[0].pixel_sha256


def drawn(jobs, load, folder):
    events = list(draw_cells(jobs, load, folder))
    done = {event.index: event for event in events if isinstance(event, Done)}
    begun = [event.index for event in events if isinstance(event, Begun)]
    return [done[i].path for i in range(len(jobs))], begun


def test_a_cell_is_what_its_request_draws_alone(tmp_path):
    plan = plan_grid(BASE, "steps: 1, 2", "seed: 7, 8")
    paths, begun = drawn(plan.jobs, Loads(), tmp_path)
    assert begun == [0, 1, 2, 3]
    for job, path in zip(plan.jobs, paths, strict=True):
        *_, alone = text_to_image(toy(), job.request)
        record, _ = png.read(path)
        assert record.request == job.request
        assert record.pixel_sha256 == alone.record.pixel_sha256
    assert len({pixels(path) for path in paths}) == 4


def test_each_model_is_loaded_once_whatever_the_order_of_the_axes(tmp_path):
    plan = plan_grid(BASE, "model: a, bb", "seed: 1-3")
    assert in_order_of_cost(plan.jobs) == [0, 2, 4, 1, 3, 5]
    load = Loads()
    paths, _ = drawn(plan.jobs, load, tmp_path)
    assert load == ["a", "bb"]
    *_, alone = text_to_image(toy(seed=2), plan.jobs[3].request)
    assert pixels(paths[3]) == alone.record.pixel_sha256


def test_adapters_are_attached_once_for_each_model():
    ink, wash = (AdapterFile(kind="lora", path=name) for name in ("ink", "wash"))
    setups = [Setup(m, "", (a,)) for a in (ink, wash) for m in ("a", "b")] * 2
    order = in_order_of_cost([Job(BASE.request, setup) for setup in setups])
    assert [setups[i].model for i in order] == ["a"] * 4 + ["b"] * 4
    assert [setups[i].adapters[0].path for i in order] == ["ink", "ink", "wash", "wash"] * 2


def test_going_on_draws_what_is_missing_and_loads_nothing_for_the_rest(tmp_path):
    first = plan_grid(BASE, "steps: 1, 2")
    before, _ = drawn(first.jobs, Loads(), tmp_path)
    load = Loads()
    after, begun = drawn(first.jobs, load, tmp_path)
    assert (after, begun, load) == (before, [], [])
    wider = plan_grid(BASE, "steps: 2, 1, 3")
    paths, begun = drawn(wider.jobs, load, tmp_path)
    assert paths[:2] == before[::-1]
    assert begun == [2]
    assert load == [""]


def test_stopping_keeps_what_is_done(tmp_path):
    plan = plan_grid(BASE, "seed: 1-3")
    events = draw_cells(plan.jobs, Loads(), tmp_path)
    next(event for event in events if isinstance(event, Done))
    events.close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".png"]
    _, begun = drawn(plan.jobs, Loads(), tmp_path)
    assert begun == [1, 2]


def test_a_picture_that_was_changed_is_drawn_anew_beside_it(tmp_path):
    plan = plan_grid(BASE, "seed: 1, 2")
    paths, _ = drawn(plan.jobs, Loads(), tmp_path)
    changed = png.encode(Image.new("RGB", (64, 64), "teal"), png.read(paths[0])[0])
    paths[0].write_bytes(changed)
    paths[1].write_bytes(paths[1].read_bytes()[:100])
    again, begun = drawn(plan.jobs, Loads(), tmp_path)
    assert begun == [0, 1]
    assert again[0] == paths[0].with_stem(f"{paths[0].stem}-2")
    assert paths[0].read_bytes() == changed
    assert drawn(plan.jobs, Loads(), tmp_path) == (again, [])


def test_pictures_of_another_model_by_that_name_are_drawn_anew(tmp_path):
    narrow, wide = (plan_grid(BASE, axis) for axis in ("seed: 1, 2", "seed: 1, 2, 3"))
    before, _ = drawn(narrow.jobs, Loads(), tmp_path)
    after, begun = drawn(wide.jobs, Loads(change=5), tmp_path)
    assert begun == [0, 1, 2]
    assert pixels(after[0]) != pixels(before[0])


def test_equal_cells_are_drawn_once(tmp_path):
    paths, begun = drawn(plan_grid(BASE, "seed: 1, 2, 1").jobs, Loads(), tmp_path)
    assert begun == [0, 1]
    assert paths[0] == paths[2]


def test_any_task_can_draw_the_cells(tmp_path):
    def half_as_wide(model, request):
        for event in text_to_image(model, replace(request, width=request.width // 2 + 32)):
            yield replace(event, image=event.image.crop((0, 0, 8, 8))) if isinstance(event, Picture) else event

    *_, done = draw_cells([BASE], Loads(), tmp_path, names=["mine"], task=half_as_wide)
    assert done.path.name == f"mine-{BASE.digest}.png"
    with Image.open(done.path) as picture:
        assert picture.size == (8, 8)


def test_a_lora_that_is_missing_stops_before_a_step(tmp_path):
    job = replace(BASE, setup=Setup(adapters=(AdapterFile(kind="lora", path=tmp_path / "none.safetensors"),)))
    with pytest.raises((RequestError, ValueError), match=r"none\.safetensors"):
        list(draw_cells([job], Loads(), tmp_path / "out"))
