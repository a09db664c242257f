import pytest
import torch
from safetensors.torch import save_file

from daguerre.checkpoints.upscalers import identify_upscaler, read_upscaler
from daguerre.files.checkpoint import CheckpointError
from daguerre.files.reader import open_checkpoint
from daguerre.models.esrgan import CompactConfig, RRDBConfig
from tests.checkpoints.esrgan_files import compact_file, compact_reference, rrdb_file, rrdb_reference

X = torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(1))


def written(tmp_path, state, prefix=""):
    save_file({prefix + key: value for key, value in state.items()}, tmp_path / "x.safetensors")
    return open_checkpoint(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("layout", "doublings", "fold", "scale"),
    [
        ("first", 0, 1, 1),
        ("first", 1, 1, 2),
        ("first", 2, 1, 4),
        ("first", 3, 1, 8),
        ("later", 2, 1, 4),
        ("real", 2, 1, 4),
        ("real", 2, 2, 2),
        ("real", 2, 4, 1),
    ],
)
def test_rrdbnets_of_every_layout_compute_what_the_paper_says(tmp_path, layout, doublings, fold, scale):
    options = {"doublings": doublings, "fold": fold}
    state = rrdb_file(layout, **options)
    checkpoint = written(tmp_path, state)
    part, config = identify_upscaler(checkpoint)
    assert (part.layout, config) == (layout, RRDBConfig(8, 2, 4, doublings, fold))
    network = read_upscaler(checkpoint)
    y = network(X)
    assert y.shape == (1, 3, 8 * scale, 12 * scale)
    assert network.config.scale == scale
    torch.testing.assert_close(y, rrdb_reference(state, layout, X, **options), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_compact_networks(tmp_path, scale):
    state = compact_file(scale=scale)
    checkpoint = written(tmp_path, state)
    assert identify_upscaler(checkpoint)[1] == CompactConfig(8, 3, scale)
    torch.testing.assert_close(read_upscaler(checkpoint)(X), compact_reference(state, X, scale=scale))


def test_pickles_and_the_moving_average(tmp_path):
    mean, last = rrdb_file("real", seed=1), rrdb_file("real", seed=2)
    torch.save({"params": last, "params_ema": mean}, tmp_path / "x.pth")
    y = read_upscaler(open_checkpoint(tmp_path / "x.pth"))(X)
    torch.testing.assert_close(y, rrdb_reference(mean, "real", X), atol=1e-6, rtol=1e-5)
    torch.save({"params": last}, tmp_path / "y.pth")
    y = read_upscaler(open_checkpoint(tmp_path / "y.pth"))(X)
    torch.testing.assert_close(y, rrdb_reference(last, "real", X), atol=1e-6, rtol=1e-5)


def test_half_precision_files_become_float32(tmp_path):
    state = {key: value.half() for key, value in compact_file().items()}
    assert read_upscaler(written(tmp_path, state))(X).dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("body.1.rdb3.conv4.bias"), r"body\.1\.rdb3\.conv4\.bias"),
        (lambda s: s.pop("conv_last.weight"), r"conv_last\.weight.*is missing"),
        (lambda s: s.update({"conv_hr.weight": torch.zeros(8, 9, 3, 3)}), r"conv_hr\.weight"),
        (lambda s: s.update({"body.0.rdb1.conv1x1.weight": torch.zeros(1)}), "no part of a RRDBNet"),
        (lambda s: s.update({"conv_first.weight": torch.zeros(8, 1, 3, 3)}), "it makes 3 channels of 1"),
        (lambda s: s.update({"conv_first.weight": torch.zeros(8)}), "should have 4 dimensions"),
        (lambda s: [s.pop(key) for key in list(s) if key.startswith("body")], "belongs to a known upscaler"),
    ],
)
def test_what_is_no_whole_upscaler_is_refused(tmp_path, change, words):
    state = rrdb_file("real")
    change(state)
    with pytest.raises(CheckpointError, match=words):
        read_upscaler(written(tmp_path, state))


def test_what_is_no_compact_network_is_refused(tmp_path):
    for change, words in [
        ({"body.8.weight": torch.zeros(13, 8, 3, 3)}, "no known upscaler of RGB"),
        ({"body.9.weight": torch.zeros(13)}, "should have 4 dimensions"),
        ({"body.0.weight": torch.zeros(8, 4, 3, 3)}, "channels of 4"),
    ]:
        with pytest.raises(CheckpointError, match=words):
            read_upscaler(written(tmp_path, {**compact_file(), **change}))
    bent = {key: value for key, value in compact_file().items() if value.ndim > 1 or "bias" in key}
    with pytest.raises(CheckpointError, match="no known upscaler of RGB"):
        read_upscaler(written(tmp_path, bent))  # with leaky ReLUs, whose slope the file does not tell


def test_margins_are_what_decides_a_pixel(tmp_path):
    """A change just within the margin can matter, and one beyond it never does."""
    for state in (rrdb_file("real", blocks=1), rrdb_file("real", blocks=1, fold=2), compact_file()):
        network = read_upscaler(written(tmp_path, state)).double()
        reach = network.config.margin + network.config.fold
        side = 2 * reach + 2 * network.config.fold
        x = torch.rand(1, 3, network.config.fold, side, generator=torch.Generator().manual_seed(1)).double()
        changed = x.clone()
        changed[..., : network.config.fold] += 100
        difference = (network(changed) - network(x)).abs().amax(dim=(0, 1, 2))
        scale = network.config.scale
        assert difference[: scale * network.config.fold].min() > 0
        assert difference[scale * reach :].max() == 0
        assert difference[scale * (reach - 4 * network.config.fold) :].max() > 0  # not needlessly wide
