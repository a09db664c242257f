import hashlib
import json
import shlex
import sys
import time
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
import torch

from daguerre.train.config import Loop, Optimizer, Run, Samples
from daguerre.train.markup import Markup, element, joined
from daguerre.train.nearest import Match
from daguerre.train.recipe_file import changed, text_of
from daguerre.train.report import duration, write_report
from daguerre.train.samples import save_matches, save_samples

HOSTILE = '<script>alert("1")</script><img src=x onerror=alert(2)> & "$title" \'${body}\' </title></pre>'


class Page(HTMLParser):
    """What a browser would make of it."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.attributes, self.text, self.stack = [], [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, key, value) for key, value in attributes]
        if tag not in ("meta", "img", "source", "br"):
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text += data

    def addresses(self):
        return [unquote(value) for _, key, value in self.attributes if key in ("src", "href", "srcset")]


def log(run, steps, **more):
    with (run / "log.jsonl").open("a") as lines:
        for step in steps:
            lines.write(
                json.dumps({"step": step, "loss": 1 / step, "lr": 1e-3, "norm": 1.0, "seconds": 0.5, **more}) + "\n"
            )


def configured(run, recipe="lora", **settings):
    run.mkdir(parents=True, exist_ok=True)
    config = Run(recipe=recipe, run=run, **settings)
    (run / "config.toml").write_text(text_of(changed(config)))
    return run


@pytest.fixture
def run(tmp_path):
    """A run in a folder of an unkind name, half done, with a torn log and unkind prompts and pictures."""
    loop, optimizer = Loop(steps=400, batch=8), Optimizer(learning_rate=2e-3)
    run = configured(
        tmp_path / "a 'run' & <b> #1?%20", loop=loop, optimizer=optimizer, samples=Samples(prompts=(HOSTILE,))
    )
    log(run, range(10, 201, 10))
    with (run / "log.jsonl").open("a") as lines:
        lines.write('{"step": 200, "val": {"0.5": 0.25, "2": 0.75}}\n{"step": 210, "lo')
    pictures = torch.zeros(2, 3, 16, 24)
    for step in (100, 200):
        save_samples(run, step, pictures, [HOSTILE, "a cat"], [7, 8])
    save_matches(run, 200, [Match(HOSTILE, 0.1, 0.25, True), Match("b.png", 0.8, None, False)], list(pictures))
    dropped = [{"name": HOSTILE, "reason": "it is cut off <i>"}]
    (run / "data.json").write_text(json.dumps({"sha256": "ab" * 32, "kept": 1234, "captions": 56, "dropped": dropped}))
    return run


def page_of(run):
    return Page(write_report(run).read_text())


def test_the_page_tells_how_far_the_run_is(run):
    text = page_of(run).text
    for part in ("a 'run' & <b> #1?%20", "200 of 400", "about 2 min", "2.0", "16.0 pictures per second", "1,234"):
        assert part in text, part


def test_a_fast_run_and_a_slow_one(tmp_path):
    for seconds, told in ((0.5, "2.00 steps/s"), (7.0, "7.0 s/step")):
        run = configured(tmp_path / f"{seconds}")
        log(run, [1, 2], seconds=seconds)
        assert told in page_of(run).text


def test_hostile_text_stays_text(run):
    page = page_of(run)
    assert page.text.count(HOSTILE) >= 4  # captions, the training picture's name, the settings, the dropped picture
    assert "script" not in page.tags
    assert not [key for _, key, _ in page.attributes if key.startswith("on")]
    assert "it is cut off <i>" in page.text
    assert not page.stack  # every element is closed


def test_the_page_needs_nothing_but_the_folder(run):
    page = page_of(run)
    addresses = page.addresses()
    assert {"curves.png", "curves-dark.png", "samples-over-time.png", "samples/step-00000200.png"} <= set(addresses)
    assert all((run / address).is_file() for address in addresses)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    policy = next(value for tag, key, value in page.attributes if tag == "meta" and "default-src" in value)
    assert "default-src 'none'" in policy


def test_each_cell_shows_its_part_of_a_strip(run):
    styles = [value for tag, key, value in page_of(run).attributes if tag == "img" and key == "style"]
    assert styles
    assert all("aspect-ratio: 24 / 16" in style for style in styles)
    assert {style.split("object-position: ")[1] for style in styles} == {"0.0000% 0", "100.0000% 0"}


def test_copies_are_named(run):
    text = page_of(run).text
    assert "1 of 2 look copied" in text
    assert "distance 0.10; 25 % of training pictures are nearer to another" in text
    assert "distance 0.80" in text


def test_settings_that_differ(run):
    text = page_of(run).text
    for part in ("optimizer.learning_rate", "0.002", "loop.steps", "400"):
        assert part in text
    assert "weight_decay" not in text


def test_how_to_go_on(run):
    command = f"daguerre train --resume {shlex.quote(str(run))}"
    assert command in page_of(run).text


FINISHED = {
    "lora": ["--lora"],
    "dreambooth": ["--lora"],
    "inversion": ["--embedding"],
    "full": ["--model"],
    "consistency": ["--model"],
}


@pytest.mark.parametrize("recipe", FINISHED)
def test_how_to_use_the_result(tmp_path, recipe):
    run = configured(tmp_path / "mine", recipe, loop=Loop(steps=20), base="tintype")
    (run / "output").mkdir()
    result = run / "output" / "mine.safetensors"
    result.write_bytes(b"weights" * 300)
    log(run, [10])
    early = page_of(run).text
    digest = hashlib.sha256(result.read_bytes()).hexdigest()
    assert digest not in early  # what lies there is of an earlier end of the run
    log(run, [20])
    text = page_of(run).text
    assert digest in text
    assert "2.1 KB" in text
    assert "finished" in text
    assert shlex.join(["daguerre", "generate", "a picture", *FINISHED[recipe], str(result)]) in text
    assert shlex.join(["daguerre", "train", "--resume", str(run), "loop.steps=40"]) in text


def test_a_run_whose_rate_has_fallen_goes_on_as_another_one(tmp_path):
    run = configured(tmp_path / "mine", loop=Loop(steps=1), optimizer=Optimizer(decay=1))
    log(run, [1])
    assert "loop.steps=2 --allow-changes" in page_of(run).text


def test_the_base_is_part_of_the_command(tmp_path):
    run = configured(tmp_path / "mine", loop=Loop(steps=1), base="models/my model.safetensors")
    log(run, [1])
    assert "--model 'models/my model.safetensors' --lora" in page_of(run).text


@pytest.mark.parametrize("damage", ["nothing", "garbage", "of another kind"])
def test_a_folder_with_little_in_it_has_a_page(tmp_path, damage):
    content = {"garbage": b"\xff\xfe\x00garbage{", "of another kind": b"[1, 2]"}
    for name in ("log.jsonl", "config.toml", "data.json") if damage in content else ():
        (tmp_path / name).write_bytes(content[damage])
    assert "0 of" in page_of(tmp_path).text


def test_without_matplotlib_there_are_no_curves(run, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    page = page_of(run)
    assert "curves.png" not in page.addresses()
    assert "200 of 400" in page.text
    assert "pip install 'daguerre[train]'" in caplog.text


def test_a_long_log_takes_little_time(run):
    log(run, range(1, 2001))
    write_report(run)
    begun = time.process_time()
    write_report(run)
    assert time.process_time() - begun < 4  # 1.3 s where this was written


@pytest.mark.parametrize(("seconds", "told"), [(0.4, "0 s"), (89, "89 s"), (600, "10 min"), (11_100, "3 h 05 min")])
def test_durations(seconds, told):
    assert duration(seconds) == told


def test_markup_escapes_all_but_markup():
    made = element("a", "<b>", element("i", "&"), href='"><script>', class_="x")
    assert made == '<a href="&quot;&gt;&lt;script&gt;" class="x">&lt;b&gt;<i>&amp;</i></a>'
    assert joined("<", Markup("<br>")) == "&lt;<br>"
    assert element("img", src="a") == '<img src="a">'
