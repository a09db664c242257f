from pathlib import Path

import pytest

from daguerre.adapters.adapted import AdapterFile
from daguerre.generate.explore.job import Job, Setup
from daguerre.generate.explore.plan import plan_grid
from daguerre.request import (
    Autoguidance,
    FreeU,
    Hires,
    ImageToImage,
    PerturbedAttention,
    RequestError,
    SmoothedEnergy,
    TextToImage,
)

BASE = Job(TextToImage(prompt="a red apple, flat", negative_prompt="a red frame", seed=7, width=64, height=64))
INK = AdapterFile(kind="lora", path=Path("ink.safetensors"))
WASH = AdapterFile(kind="lora", path=Path("wash.safetensors"))


def requests(axis, base=BASE):
    return [job.request for job in plan_grid(base, axis).jobs]


@pytest.mark.parametrize(
    ("axis", "field", "values", "label"),
    [
        ("steps: 5-15 (+5)", "steps", [5, 10, 15], "Steps: 5"),
        ("CFG Scale: 1, 2.5", "cfg_scale", [1, 2.5], "CFG scale: 1"),
        ("cfg: 1, 2", "cfg_scale", [1, 2], "CFG scale: 1"),
        ("sampler: Euler a, DPM++ 2M", "sampler", ["Euler a", "DPM++ 2M"], "Euler a"),
        ("Schedule type: karras, exponential", "schedule", ["karras", "exponential"], "karras"),
        ("Seed: 1,5", "seed", [1, 5], "Seed: 1"),
        ("Clip skip: 1-2", "clip_skip", [1, 2], "Clip skip: 1"),
        ("Var. strength: 0, 0.5", "variation_strength", [0, 0.5], "Variation strength: 0"),
        ("seed size: 0x0, 96x64", "seed_width", [0, 96], "Seed size: 0x0"),
        ("tiling: off, X", "tiling", ["off", "x"], "off"),
        ("emphasis: No norm, ignore", "emphasis", ["no norm", "ignore"], "No norm"),
        ("guidance interval: 0 to 1, 0.1 0.8", "guidance_interval", [(0, 1), (0.1, 0.8)], "0 to 1"),
        ('prompt: "a cat, red", a dog', "prompt", ["a cat, red", "a dog"], "a cat, red"),
        ("S/R: red, green", "prompt", ["a red apple, flat", "a green apple, flat"], "red"),
        ("S/R: red, ", "negative_prompt", ["a red frame", "a  frame"], "red"),
        ("Prompt order: apple, red", "prompt", ["a apple red, flat", "a red apple, flat"], "apple, red"),
        ("pag.scale: 1-2", "guides", [(PerturbedAttention(scale=1),), (PerturbedAttention(scale=2),)], "pag scale: 1"),
        (
            'guides: "pag:scale=2,layers=a+ b+freeu:s1=+1", freeu + auto:model=x+1.pt+seg',
            "guides",
            [
                (PerturbedAttention(scale=2, layers="a+ b"), FreeU(s1=1)),
                (FreeU(), Autoguidance(model="x+1.pt"), SmoothedEnergy()),
            ],
            "pag:scale=2,layers=a+ b+freeu:s1=+1",
        ),
        (
            "pag.layers: mid_attn, a+b",
            "guides",
            [(PerturbedAttention(layers="mid_attn"),), (PerturbedAttention(layers="a+b"),)],
            "pag layers: mid_attn",
        ),
        ("guides: none, pag:scale=2", "guides", [(), (PerturbedAttention(scale=2),)], "none"),
    ],
)
def test_any_field_can_be_an_axis(axis, field, values, label):
    assert [getattr(request, field) for request in requests(axis)] == values
    assert plan_grid(BASE, axis).columns[0][0].text == label


def test_a_size_is_two_fields():
    assert [(r.width, r.height) for r in requests("size: 64x128, 128x64")] == [(64, 128), (128, 64)]


def test_the_guide_that_is_there_keeps_its_other_fields():
    base = Job(TextToImage(prompt="x", seed=1, guides=(PerturbedAttention(scale=3, adaptive=0.5),)))
    assert requests("pag.scale: 1", base)[0].guides == (PerturbedAttention(scale=1, adaptive=0.5),)


def test_fields_inside_of_a_field():
    base = Job(TextToImage(prompt="x", seed=1, hires=Hires(strength=0.5)))
    found = [request.hires for request in requests("hires.scale: 1.5, 2", base)]
    assert found == [Hires(strength=0.5, scale=1.5), Hires(strength=0.5, scale=2)]
    with pytest.raises(RequestError, match=r"name one, such as hires\.scale"):
        requests("hires: 2", base)
    with pytest.raises(RequestError, match="hires is off"):
        requests("hires.scale: 1.5, 2")


@pytest.mark.parametrize("turned", [False, True])
def test_words_are_put_in_order_before_they_are_replaced(turned):
    axes = ["S/R: apple, pear", "order: apple, flat"]
    found = {job.request.prompt for job in plan_grid(BASE, *(axes[::-1] if turned else axes)).jobs}
    assert found == {"a red apple, flat", "a red pear, flat", "a red flat, apple", "a red flat, pear"}
    with pytest.raises(RequestError, match="'flat' is not in the prompt 'a sea', which another axis has changed"):
        plan_grid(BASE, "prompt: a red apple flat, a sea", "order: flat, red")


def test_cells_are_ordered_by_sheet_row_and_column():
    plan = plan_grid(BASE, "steps: 1, 2, 3", "cfg: 1, 2", "seed: 5, 6")
    assert [len(side) for side in (plan.columns, plan.rows, plan.sheets)] == [3, 2, 2]
    place = (1 * 2 + 0) * 3 + 2
    request = plan.jobs[place].request
    assert (request.steps, request.cfg_scale, request.seed) == (3, 1, 6)
    assert plan.at(place) == (2, 0, 1)
    assert plan.title(place) == "Steps: 3, CFG scale: 1, Seed: 6"


def test_search_and_replace_follows_the_axis_that_sets_the_prompt():
    base = Job(TextToImage(prompt="a red apple", seed=1))
    plan = plan_grid(base, "S/R: red, green", "prompt: a red apple, a red pear")
    assert [job.request.prompt for job in plan.jobs] == ["a red apple", "a green apple", "a red pear", "a green pear"]


def test_search_and_replace_finds_the_prompts_of_a_second_pass():
    base = Job(TextToImage(prompt="an apple", seed=1, hires=Hires(prompt="red fur", negative_prompt="a red frame")))
    first, second = (job.request for job in plan_grid(base, "S/R: red, green").jobs)
    assert first == base.request
    assert second.hires == Hires(prompt="green fur", negative_prompt="a green frame")
    assert second.prompt == "an apple"


def test_models_vaes_and_loras():
    plan = plan_grid(BASE, "model: a.safetensors, owner/sd1.5", "vae: none, v.safetensors", "lora: none, ink.pt:0.5")
    setups = [job.setup for job in plan.jobs]
    assert [setup.model for setup in setups[:2]] == ["a.safetensors", "owner/sd1.5"]
    assert [setup.vae for setup in setups[1:3]] == ["none", "v.safetensors"]
    assert setups[0].adapters == ()
    assert setups[4].adapters == (AdapterFile(kind="lora", path=Path("ink.pt"), weight=0.5),)
    assert [label[0].text for label in plan.columns + plan.rows + plan.sheets] == [
        "a", "sd1.5", "own VAE", "v", "no LoRA", "ink 0.5",
    ]  # fmt: skip


def test_weights_of_all_loras_or_of_one():
    base = Job(BASE.request, Setup(adapters=(INK, WASH)))
    both = [[a.weight for a in job.setup.adapters] for job in plan_grid(base, "LoRA weight: 0-1 [3]").jobs]
    assert both == [[0, 0], [0.5, 0.5], [1, 1]]
    one = [[a.weight for a in job.setup.adapters] for job in plan_grid(base, "lora wash: 0, 2").jobs]
    assert one == [[1, 0], [1, 2]]


def test_the_lora_of_an_axis_gets_the_weight_of_an_axis():
    plan = plan_grid(BASE, "lora weight: 0.5, 1", "lora: a.pt, b.pt")
    found = [(job.setup.adapters[0].path.stem, job.setup.adapters[0].weight) for job in plan.jobs]
    assert found == [("a", 0.5), ("a", 1), ("b", 0.5), ("b", 1)]


def test_a_random_seed_is_one_for_all_cells():
    seeds = {r.seed for r in requests("steps: 1-5", Job(TextToImage(prompt="x")))}
    assert len(seeds) == 1
    assert seeds != {-1}
    assert len(set(requests("seed: -1, -1, 5"))) == 3


def test_a_variation_seed_is_one_for_all_cells_that_use_it():
    found = {r.variation_seed for r in requests("variation_strength: 0, 0.5, 1")}
    assert found == {-1, 8}


@pytest.mark.parametrize(
    ("axis", "words"),
    [
        ("steps", "'steps' is no axis"),
        (": 1", "is no axis"),
        ("steps:", "axis 'steps': it has no values"),
        ("steps: 5, ten", "axis 'steps': 'ten' is not a whole number"),
        ("steps: 5, 0", "axis 'Steps', value 'Steps: 0': steps is 0"),
        ("stps: 5", "did you mean 'steps'"),
        ("count: 1, 2", "no such field"),
        ("sampler: Euler a, Eulr", "axis 'Sampler', value 'Eulr'"),
        ("schedule: karas", "axis 'Schedule', value 'karas'"),
        ("size: 64x64, 64by64", "'64by64' is no size"),
        ("size: 64x65", "axis 'Size', value '64x65': height is 65"),
        ("S/R: blue, green", "'blue', the first value"),
        ("order: red, blue", "'blue' is not in the prompt"),
        ("order: a, r, e, d, p, l, f", "more than 1,000 orders"),
        ("pag.sale: 1", "has no field 'sale'"),
        ("pag.scale: -1", "pag: scale is -1"),
        ("guides: pug", "did you mean 'pag'"),
        ("guides: freeu+pug", "unknown guide 'pug'; did you mean 'pag'"),
        ("guides: pag:scale=2+pug", "scale is '2+pug'; it must be a number"),
        ("steps.more: 1", "no fields of its own"),
        ("tiling: maybe", "axis 'Tiling', value 'maybe': tiling is 'maybe'"),
        ("guidance_interval: 0.5", "must be 2 numbers"),
        ("model: missing", "axis 'Model', value 'missing': no such model"),
        ("lora ink: 1", "there is no LoRA 'ink'"),
        ("lora weight: 0, 1", "axis 'LoRA weight' changes nothing"),
        ("variation seed: 1, 2, x", "'x' is not a whole number"),
    ],
)
def test_a_wrong_axis_is_named_before_anything_is_loaded(axis, words):
    def check(setup):
        raise ValueError("no such model")

    with pytest.raises(RequestError) as error:
        plan_grid(BASE, "cfg: 1, 2", axis, check=check)
    assert words in str(error.value)


def test_fields_of_other_tasks_are_axes_of_theirs():
    base = Job(ImageToImage(prompt="x", seed=1))
    assert [r.strength for r in requests("Denoising: 0.25-0.75 [3]", base)] == [0.25, 0.5, 0.75]
    plan = plan_grid(base, "exact steps: yes, off")
    assert [job.request.exact_steps for job in plan.jobs] == [True, False]
    assert plan.columns[0][0].text == "Exact steps: true"
    with pytest.raises(RequestError, match="'maybe' is neither true nor false"):
        requests("exact_steps: maybe", base)
    with pytest.raises(RequestError, match="no such field"):
        requests("strength: 1")


def test_limits():
    with pytest.raises(RequestError, match=r"1000 x 20 x 1 = 20,000 cells; the limit is 10,000"):
        plan_grid(BASE, "seed: 1-1000", "steps: 1-20")
    with pytest.raises(RequestError, match="count is 2"):
        plan_grid(Job(TextToImage(prompt="x", count=2)), "steps: 1")
    with pytest.raises(RequestError, match="needs an axis"):
        plan_grid(BASE)
