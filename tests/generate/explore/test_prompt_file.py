import pytest

from daguerre.generate.explore.job import Job
from daguerre.generate.explore.prompt_file import read_prompts
from daguerre.request import Hires, PerturbedAttention, RequestError, TextToImage

BASE = Job(TextToImage(prompt="", steps=9, seed=100))


def requests(text, **options):
    return [job.request for job in read_prompts(text, BASE, **options)]


def test_plain_lines_are_prompts():
    found = requests("\n a red apple, flat \n# a comment\n\na pear -- green\n")
    assert [request.prompt for request in found] == ["a red apple, flat", "a pear -- green"]
    assert {(request.steps, request.seed) for request in found} == {(9, 100)}


def test_flags_are_read_as_a1111_reads_them():
    line = (
        '--prompt "a cat" in a hat --negative_prompt blur, dark --steps 20 --cfg_scale 4.5 --width 64 --height 128 '
        '--sampler_name "DPM++ 2M" --seed 7 --subseed 3 --subseed_strength 0.5 --seed_resize_from_w 64 '
        "--seed_resize_from_h 64 --tiling true --sd_model toy --do_not_save_grid true"
    )
    (job,) = read_prompts(line, BASE)
    assert job.setup.model == "toy"
    assert job.request == TextToImage(
        prompt="a cat in a hat",
        negative_prompt="blur, dark",
        steps=20,
        cfg_scale=4.5,
        width=64,
        height=128,
        sampler="DPM++ 2M",
        seed=7,
        variation_seed=3,
        variation_strength=0.5,
        seed_width=64,
        seed_height=64,
        tiling="both",
    )


def test_json_lines_and_any_field():
    (request,) = requests('{"prompt": "x", "guides": "pag:scale=2", "guidance_interval": [0.1, 0.9], "clip_skip": 2}')
    assert request.guides == (PerturbedAttention(scale=2),)
    assert (request.guidance_interval, request.clip_skip) == ((0.1, 0.9), 2)
    (same,) = requests('--prompt x --guides pag:scale=2 --guidance_interval "0.1 0.9" --clip-skip 2')
    assert same == request


def test_a_second_pass_is_as_the_command_says_but_for_what_a_line_says():
    base = Job(TextToImage(prompt="", seed=1, hires=Hires(scale=1.5, steps=3)))
    lines = 'x\n{"prompt": "x", "hires": {"scale": 2}}\n{"prompt": "x", "hires": null}'
    assert [job.request.hires for job in read_prompts(lines, base)] == [
        Hires(scale=1.5, steps=3),
        Hires(scale=2, steps=3),
        None,
    ]
    assert requests('{"prompt": "x", "hires": {}}')[0].hires == Hires()


def test_pictures_of_a_line_have_seeds_that_follow():
    assert [r.seed for r in requests("--prompt x --batch_size 2 --n_iter 2 --seed 5")] == [5, 6, 7, 8]
    varied = requests("--prompt x --n_iter 2 --seed 5 --subseed 3 --subseed_strength 0.1")
    assert [(r.seed, r.variation_seed) for r in varied] == [(5, 3), (5, 4)]
    assert [r.seed for r in requests("x\n--prompt y --count 2\nz", next_seeds=True)] == [100, 101, 102, 103]
    random = [job.request.seed for job in read_prompts("x\ny", Job(TextToImage(prompt="")))]
    assert random[0] == random[1] != -1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--prompt x --stps 5", "unknown flag 'stps'"),
        ("--prompt x --steps", "'--steps' is not --FLAG VALUE"),
        ("--prompt x --steps many", "steps is 'many'; it must be a whole number"),
        ("--prompt x --steps 0", "steps is 0"),
        ("--prompt x --sampler_name Eulr", "did you mean"),
        ('--prompt "x', "No closing quotation"),
        ("--steps 5 more", "'more' is not --FLAG"),
        ('{"prompt": 5}', "prompt is 5; it must be text"),
        ('{"prompt": "x", "steps": true}', "steps is True"),
        ('{"prompt": "x", "steps": [5]}', "steps is [5]"),
        ('{"prompt": "x", "guides": {"pag": 1}}', "guides is"),
        ('{"prompt": "x", "steps": 1e999}', "steps is inf; it must be a whole number"),
        ('{"prompt": "x", "width": 100.7}', "width is 100.7; it must be a whole number"),
        ('{"prompt": "x", "cfg_scale": NaN}', "cfg_scale is nan; it must be a number"),
        ("--prompt x --steps 20.5", "steps is '20.5'; it must be a whole number"),
        ('{"prompt": "x", "guidance_interval": 3}', "guidance_interval is 3; it must be 2 numbers"),
        ('{"prompt": "x", "guidance_interval": [0.1]}', "guidance_interval is [0.1]; it must be 2 numbers"),
        ('{"prompt": "x", "guidance_interval": [0.1, "y"]}', "guidance_interval is 'y'; it must be a number"),
        ('{"prompt": "x", "hires": {"scale": "much"}}', "hires.scale is 'much'; it must be a number"),
        ('{"prompt": "x", "hires": {"scal": 2}}', "hires has no field 'scal'; its fields are scale, "),
        ('{"prompt": "x", "hires": {"scale": 9}}', "width is 4608"),
        ("--prompt x --hires 2", "hires is '2'; give an object of its fields, such as {\"scale\": 2}"),
        ('{"prompt": "x"', "delimiter"),
        ('{"prompt": "x", "tiling": "maybe"}', "tiling is 'maybe'"),
        ("--prompt x --count 99999", "count is 99999"),
        ('{"a":' * 100_000, ""),
    ],
)
def test_a_wrong_line_is_named(line, words):
    with pytest.raises(RequestError) as error:
        requests(f"fine\n{line}")
    assert str(error.value).startswith("line 2: ")
    assert words in str(error.value)


def test_limits():
    with pytest.raises(RequestError, match="no prompt in it"):
        requests("\n# nothing\n")
    with pytest.raises(RequestError, match="line 11: more than 10,000 pictures"):
        requests("--prompt x --count 1000\n" * 20)
