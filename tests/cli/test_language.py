"""What prompts name, as a user has it: real commands, real folders, exit codes."""

import json

import pytest
import torch

from daguerre import TextToImage, text_to_image
from daguerre.adapters.adapted import AdapterFile, adapted
from daguerre.adapters.formats import save_lora
from daguerre.adapters.named import networks_of
from daguerre.provenance import png
from daguerre.request import RequestError
from tests.adapters.made import random_lora, random_word
from tests.adapters.test_hypernetwork import trained
from tests.cli.test_lora import SMALL, draw, pixels  # noqa: F401  fixtures
from tests.toy import toy, write_toy


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder of models with LoRAs, embeddings, wildcards and styles beside them."""
    folder, model = tmp_path_factory.mktemp("home"), toy()
    write_toy(model, folder / "toy.safetensors")
    for place in ("loras/more", "loras/old", "embeddings", "hypernetworks", "wildcards"):
        (folder / place).mkdir(parents=True)
    for seed, name in enumerate(("loras/Sticker", "loras/more/ink", "loras/old/twice", "loras/more/twice")):
        save_lora(folder / f"{name}.safetensors", random_lora(model, seed), model, "kohya", {"title": name})
    random_word(model, "zwx").save(folder / "embeddings" / "zwx.safetensors")
    random_word(toy("sdxl"), "other").save(folder / "embeddings" / "other.safetensors")
    torch.save(trained(), folder / "hypernetworks" / "mine.pt")
    (folder / "wildcards" / "fruit.txt").write_text("apple\npear\ncherry\nplum\n")
    (folder / "styles.csv").write_text(
        "name,prompt,negative_prompt\noil,oil painting,photo\nframe,a framed {prompt},\n"
    )
    return folder


def apart(a, b):
    return max(abs(x - y) for x, y in zip(pixels(a), pixels(b), strict=True))


def test_a_tag_is_the_same_as_the_flag(draw, home):  # noqa: F811
    named = draw("a cat <lora:sticker:0.5:0.8>")
    given = draw("a cat", "--lora", f"{home}/loras/Sticker.safetensors:0.8:0.5")
    assert pixels(named) == pixels(given) != pixels(draw("a cat"))
    record, infotext = png.read(named)
    (used,) = record.adapters
    assert (used.name, used.weight, used.text_weight) == ("sticker", 0.8, 0.5)
    assert infotext.startswith("a cat <lora:sticker:0.5:0.8>\n")
    assert f'Lora hashes: "sticker: {used.sha256[:10]}"' in infotext


def test_a_drawing_with_a_tag_is_drawn_again(draw, run):  # noqa: F811
    assert "pixel-identical" in run("reproduce", draw("a cat <lora:sticker:0.5:dyn=1> <lora:more/ink>")).stdout


def test_fewer_ranks_are_another_drawing(draw):  # noqa: F811
    assert pixels(draw("a cat <lora:sticker:1:1:1>")) != pixels(draw("a cat <lora:sticker>"))
    assert pixels(draw("a cat <lora:sticker:1:1:64>")) == pixels(draw("a cat <lora:sticker>"))


def test_another_folder_of_loras(draw, home, tmp_path):  # noqa: F811
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x.safetensors").write_bytes((home / "loras" / "more" / "ink.safetensors").read_bytes())
    here = draw("a cat <lora:x>", "--lora-dir", tmp_path / "mine")
    assert pixels(here) == pixels(draw("a cat <lora:ink>"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a <lora:stiker:1>",), "did you mean 'Sticker'"),
        (("a <lora:twice>",), "may be more/twice or old/twice"),
        (("a <lora:sticker:strong>",), "'strong' is no weight"),
        (("a <hypernet:x>",), "asks for the hypernetwork 'x'"),
        (("a __fruits__",), "did you mean __fruit__"),
        (("a", "--hires-prompt", "<lora:stiker:1>"), "did you mean 'Sticker'"),
        (("a", "--hires-prompt", "a __fruits__"), "did you mean __fruit__"),
        (("a", "--hires-negative", "__fruits__"), "did you mean __fruit__"),
        (("a", "--style", "oill"), "did you mean 'oil'"),
        (("a", "--lora-dir", "nowhere"), "--lora-dir nowhere: there is no such folder"),
        (("a", "--wildcards", "nowhere"), "--wildcards nowhere: there is no such folder"),
        (("a", "--styles", "nowhere.csv"), "--styles does nothing without --style"),
        (("a", "--styles", "nowhere.csv", "--style", "oil"), "there is no table of styles nowhere.csv"),
    ],
)
def test_what_is_not_there_is_refused_before_a_model_is_loaded(run, arguments, words):
    assert words in run("generate", *arguments, "--model", "no-such-model", code=2).stderr


def test_an_embedding_is_a_word_by_itself(draw, home, caplog):  # noqa: F811
    named = draw("a ZWX cat")
    assert [used.name for used in png.read(named)[0].adapters] == ["zwx"]
    assert pixels(named) == pixels(draw("a zwx cat", "--embedding-dir", home / "embeddings"))
    assert pixels(named) != pixels(draw("a zwx cat", "--embedding-dir", home / "loras"))
    assert "TI hashes" in png.read(named)[1]
    assert not png.read(draw("a cat"))[0].adapters
    assert not png.read(draw("the other cat"))[0].adapters
    assert "other.safetensors" in caplog.text


def test_a_hypernetwork_is_named_by_a_tag(draw, run, home, tmp_path):  # noqa: F811
    named = draw("a cat <hypernet:mine:0.5>")
    assert len({pixels(path) for path in (named, draw("a cat <hypernet:mine>"), draw("a cat"))}) == 3
    assert [(used.kind, used.weight) for used in png.read(named)[0].adapters] == [("hypernetwork", 0.5)]
    (tmp_path / "other.pt").write_bytes((home / "hypernetworks" / "mine.pt").read_bytes())
    there = draw("a cat <hypernet:other:0.5>", "--hypernetwork-dir", tmp_path)
    assert pixels(there) == pixels(named)
    assert "pixel-identical" in run("reproduce", named).stdout


def test_styles_are_put_on(draw):  # noqa: F811
    both = draw("a cat", "--negative", "ugly", "--style", "frame", "--style", "oil")
    record, infotext = png.read(both)
    assert record.request.prompt == "a framed a cat, oil painting"
    assert record.request.negative_prompt == "ugly, photo"
    assert (record.template, record.negative_template) == ("a cat", "ugly")
    assert infotext.startswith("a framed a cat, oil painting\nNegative prompt: ugly, photo\n")
    assert "Template: a cat, Negative Template: ugly" in infotext
    assert pixels(both) == pixels(draw("a framed a cat, oil painting", "--negative", "ugly, photo"))
    assert pixels(both) != pixels(draw("a cat", "--negative", "ugly"))


def test_each_picture_chooses_by_its_own_seed(run, tmp_path):
    done = run("generate", "a {red|blue} __fruit__", "--model", "toy", *SMALL, "--count", 4)
    paths = [tmp_path / json.loads(line)["path"] for line in done.stdout.splitlines()]
    records = [png.read(path)[0] for path in paths]
    prompts = [record.request.prompt for record in records]
    assert [record.seed for record in records] == [5, 6, 7, 8]
    assert len(set(prompts)) > 1
    assert all(record.template == "a {red|blue} __fruit__" for record in records)
    assert "pixel-identical" in run("reproduce", paths[2]).stdout
    again = run("generate", "a {red|blue} __fruit__", "--model", "toy", *SMALL[:4], "--seed", 7, *SMALL[6:])
    assert png.read(tmp_path / json.loads(again.stdout)["path"])[0].request.prompt == prompts[2]


def test_a_comment_stays_in_the_infotext_and_out_of_the_picture(draw):  # noqa: F811
    noted = draw("a cat # mine")
    assert pixels(noted) == pixels(draw("a cat"))
    assert png.read(noted)[1].startswith("a cat # mine\n")
    assert pixels(draw("a cat # mine", "--no-comments")) != pixels(noted)


HIRES = ("--hires", 1.5, "--hires-steps", 2)


def test_the_second_pass_has_a_language_of_its_own(draw, run):  # noqa: F811
    typed = ("--hires-prompt", "a {red|blue} zwx <lora:ink:0.5>", "--hires-negative", "{u|v}", "--style", "oil")
    record, infotext = png.read(named := draw("a {red|blue} cat <lora:sticker>", *HIRES, *typed))
    told = [(used.name, used.weight, used.during) for used in record.adapters]
    assert told == [("zwx", 1.0, ""), ("sticker", 1.0, "first"), ("ink", 0.5, "second")]
    (color,) = {"red", "blue"} & set(record.request.prompt.split())
    assert record.request.hires.prompt == f"a {color} zwx <lora:ink:0.5>, oil painting"
    assert record.request.hires.negative_prompt in ("u, photo", "v, photo")
    assert (record.hires_template, record.hires_negative_template) == (typed[1], "{u|v}")
    assert f'Hires prompt: "{record.request.hires.prompt}"' in infotext
    assert "pixel-identical" in run("reproduce", named).stdout


def test_a_file_of_that_name_that_no_prompt_asked_for_does_not_count(home):
    file = AdapterFile(kind="lora", path=home / "loras" / "Sticker.safetensors")
    request = TextToImage(prompt="a <lora:sticker:0.5>", width=64, height=64, steps=1)
    with adapted(toy(), [file]) as (model, _), pytest.raises(RequestError, match="'sticker', which is not attached"):
        list(text_to_image(model, request))
    with adapted(toy(), networks_of(request, home / "loras", home)) as (model, _):
        assert list(text_to_image(model, request))
