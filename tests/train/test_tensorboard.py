import logging
import sys

import pytest
import torch

from daguerre.train.contact_sheet import contact_sheet
from daguerre.train.tensorboard import FOLDER, Events

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def curves(run):
    events = accumulator.EventAccumulator(str(run / FOLDER), size_guidance={"images": 0})
    events.Reload()
    return events


def test_numbers_become_curves(tmp_path):
    with Events(tmp_path) as events:
        for step in (1, 2, 3):
            events.add(step, {"step": step, "loss": 1 / step, "note": "words", "val": {"0.5": step, "2": float("nan")}})
    found = curves(tmp_path)
    assert set(found.Tags()["scalars"]) == {"loss", "val/0.5"}
    assert [(e.step, e.value) for e in found.Scalars("loss")] == [(s, pytest.approx(1 / s)) for s in (1, 2, 3)]
    assert [e.value for e in found.Scalars("val/0.5")] == [1, 2, 3]


def test_a_resumed_run_shows_each_step_once(tmp_path):
    with Events(tmp_path) as events:
        for step in range(1, 8):
            events.add(step, {"loss": -1.0})
    with Events(tmp_path, 4) as events:  # its newest checkpoint
        for step in range(5, 10):
            events.add(step, {"loss": 1.0})
    shown = [(e.step, e.value) for e in curves(tmp_path).Scalars("loss")]
    assert shown == [(s, -1.0) for s in range(1, 5)] + [(s, 1.0) for s in range(5, 10)]


def test_pictures_are_shown(tmp_path):
    contact_sheet(torch.zeros(2, 3, 8, 8), tmp_path / "strip.png", 2)
    with Events(tmp_path) as events:
        events.add_picture(5, "samples", tmp_path / "strip.png")
    [image] = curves(tmp_path).Images("samples")
    assert (image.step, image.width, image.height) == (5, 16, 8)


def test_without_tensorboard_nothing_fails(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with caplog.at_level(logging.INFO), Events(tmp_path) as events:
        events.add(1, {"loss": 1.0})
        events.add_picture(1, "samples", tmp_path / "missing.png")
    assert [record.getMessage() for record in caplog.records] == [
        "no events for TensorBoard, which is not installed: pip install 'daguerre[train]'"
    ]
    assert not (tmp_path / FOLDER).exists()
