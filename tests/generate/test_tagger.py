"""Taggers, by ONNX networks made here: tag i is as sure as a chosen pixel value is high."""

import csv

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from daguerre.generate.tagger import load_tagger, prompt_of, ratings, tag, written
from daguerre.request import RequestError

SIZE = 4
TAGS = [("general", 9), ("explicit", 9), ("blue_sky", 0), ("red_ball", 0), ("saber_(fate)", 4), ("^_^", 0)]


def network(path, shape=("batch", SIZE, SIZE, 3), scale=1 / 255):
    """Confidence of tag i: the mean of channel i % 3, divided by 1 + i // 3."""
    first, count = shape[1] == 3, len(TAGS)
    weights = np.zeros((3, count), np.float32)
    weights[[i % 3 for i in range(count)], range(count)] = [scale / (1 + i // 3) for i in range(count)]
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["y"]),
    ]
    axes = np.array([2, 3] if first else [1, 2], np.int64)
    graph = helper.make_graph(
        nodes,
        "tagger",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [shape[0], count])],
        [numpy_helper.from_array(axes, "axes"), numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def table(path, tags=TAGS):
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["tag_id", "name", "category", "count"])
        rows.writerows([i, name, category, 1] for i, (name, category) in enumerate(tags))
    return path


@pytest.fixture
def wd14(tmp_path):
    network(tmp_path / "model.onnx")
    table(tmp_path / "selected_tags.csv")
    return tmp_path / "model.onnx"


def test_wd14_sees_blue_first_and_all_of_the_picture(wd14):
    tags = tag(load_tagger(wd14), Image.new("RGB", (8, 8), (51, 0, 255)))  # channels of the network: B, G, R
    sure = {t.name: t.confidence for t in tags}
    assert sure == pytest.approx(
        {"general": 1, "explicit": 0, "blue_sky": 0.2, "red_ball": 0.5, "saber_(fate)": 0, "^_^": 0.1}, abs=1e-6
    )
    assert [t.confidence for t in tags] == sorted((t.confidence for t in tags), reverse=True)
    wide = tag(load_tagger(wd14), Image.new("RGB", (16, 8), "black"))  # half of the square stays white
    assert wide[0].confidence == pytest.approx(0.5)


def test_the_prompt_has_sure_tags_alone_and_no_ratings(wd14):
    tags = tag(load_tagger(wd14), Image.new("RGB", (8, 8), (255, 255, 255)))
    assert prompt_of(tags) == "blue sky, red ball, ^_^"
    assert prompt_of(tags, threshold=0.6) == "blue sky"
    assert prompt_of(tags, character=0.5) == r"blue sky, red ball, saber \(fate\), ^_^"
    assert ratings(tags) == pytest.approx({"general": 1.0, "explicit": 1.0})


def test_deepdanbooru_sees_red_first_in_0_to_1(tmp_path):
    network(tmp_path / "model.onnx", scale=1.0)
    (tmp_path / "tags.txt").write_text("1girl\nlong_hair\nsmile\nhat\n\nsky\nrating:safe\n")
    tags = tag(load_tagger(tmp_path / "model.onnx"), Image.new("RGB", (8, 8), (255, 102, 0)))
    assert {t.name: round(t.confidence, 3) for t in tags} == {
        "1girl": 1.0, "long_hair": 0.4, "smile": 0.0, "hat": 0.5, "sky": 0.2, "rating:safe": 0.0
    }  # fmt: skip
    assert prompt_of(tags, threshold=0.4) == "1girl, hat, long hair"
    assert ratings(tags) == {"safe": 0.0}


def test_channels_first(tmp_path, wd14):
    network(tmp_path / "first.onnx", shape=(1, 3, SIZE, SIZE))
    image = Image.effect_noise((9, 9), 90).convert("RGB")
    image.putpixel((3, 3), (255, 0, 0))
    first = tag(load_tagger(tmp_path / "first.onnx", tmp_path / "selected_tags.csv"), image)
    assert [(t.name, round(t.confidence, 5)) for t in first] == [
        (t.name, round(t.confidence, 5)) for t in tag(load_tagger(wd14), image)
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("long_hair", "long hair"),
        ("saber_(fate)", r"saber \(fate\)"),
        ("^_^", "^_^"),
        ("o_o", "o_o"),
        ("(o)_(o)", r"\(o\)_\(o\)"),
        (r"back\slash", r"back\\slash"),
        ("6+girls", "6+girls"),
    ],
)
def test_tags_as_prompts_have_them(name, expected):
    assert written(name) == expected


def test_files_that_do_not_go_together(tmp_path, wd14):
    with pytest.raises(RequestError, match=r"6 tags and .*selected_tags\.csv names 2"):
        load_tagger(wd14, table(tmp_path / "selected_tags.csv", TAGS[:2]))
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RequestError, match=r"other\.csv: it is no table of tags"):
        load_tagger(wd14, tmp_path / "other.csv")
    with pytest.raises(RequestError, match=r"none\.onnx: there is no such file"):
        load_tagger(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(RequestError, match=r"text\.onnx: onnxruntime cannot read it"):
        load_tagger(tmp_path / "text.onnx", table(tmp_path / "selected_tags.csv"))
    network(tmp_path / "wide.onnx", shape=(1, 4, 8, 3))
    with pytest.raises(RequestError, match=r"wide\.onnx: it takes \[1, 4, 8, 3\], not one square picture"):
        load_tagger(tmp_path / "wide.onnx", tmp_path / "selected_tags.csv")
    (tmp_path / "selected_tags.csv").unlink()
    with pytest.raises(RequestError, match=r"no selected_tags\.csv or tags\.txt is beside it"):
        load_tagger(wd14)
