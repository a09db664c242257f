"""Opening files and folders: memory-mapped, whole or in shards, with errors that say what is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from daguerre.checkpoints.identify import Description, identify, read_component
from daguerre.checkpoints.layout import Source
from daguerre.checkpoints.tables import blank
from daguerre.checkpoints.writer import write_diffusers, write_ldm
from daguerre.files.checkpoint import CheckpointError
from daguerre.files.reader import open_checkpoint
from daguerre.models.clip import CLIPTextConfig
from daguerre.models.unet import UNetConfig
from daguerre.models.vae import VAEConfig

MODEL = Description(
    family="sd1",
    unet=UNetConfig((32, 64), (1, 0), 32, heads=4, linear=False, blocks=1),
    vae=VAEConfig((32, 32), blocks=1),
    text=(CLIPTextConfig(32, 2, 4, vocabulary=50, context=9, end_token=49),),
)


def states() -> dict[str, dict[str, Tensor]]:
    torch.manual_seed(0)
    return {
        part: {name: torch.randn(tensor.shape).half() for name, tensor in blank(config).state_dict().items()}
        for part, config in MODEL.configs.items()
    }


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("original") / "x.safetensors"
    write_ldm(path, states(), MODEL)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_diffusers(tmp_path / "model", states(), MODEL)
    return tmp_path / "model"


def weights(folder: Path) -> dict[str, Tensor]:
    checkpoint = open_checkpoint(folder)
    return {key: checkpoint.tensor(key) for key in checkpoint.tensors}


def shard(part: Path, name: str = "diffusion_pytorch_model") -> list[str]:
    """Splits a part's weights into three files with an index, as diffusers does."""
    whole = load_file(part / f"{name}.safetensors")
    keys, names = list(whole), [f"{name}-{n:05}-of-00003.safetensors" for n in (1, 2, 3)]
    for n, file in enumerate(names):
        save_file({key: whole[key] for key in keys[n::3]}, part / file)
    weight_map = {key: names[n % 3] for n, key in enumerate(keys)}
    (part / f"{name}.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (part / f"{name}.safetensors").unlink()
    return names


PROBE = """
import sys
from pathlib import Path
from daguerre.checkpoints.identify import identify
from daguerre.files.reader import open_checkpoint
from daguerre.checkpoints.identify import read_component
from daguerre.checkpoints.tables import blank

def anonymous():
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024

checkpoint = open_checkpoint(sys.argv[1])
identity = identify(checkpoint)
networks = {part.name: blank(identity.configs[part.name]) for part in identity.parts}
before = anonymous()
for part, network in networks.items():
    network.load_state_dict(read_component(checkpoint, identity, part), assign=True)
total = sum(p.float().sum() for network in networks.values() for p in network.parameters() if p.numel() < 1 << 20)
lines = Path("/proc/self/maps").read_text().splitlines()
mapped = [line.split()[0].split("-") for line in lines if sys.argv[1] in line]
spans = [(int(low, 16), int(high, 16)) for low, high in mapped]
parameters = [p for network in networks.values() for p in network.parameters()]
inside = sum(any(low <= p.data_ptr() < high for low, high in spans) for p in parameters)
print(anonymous() - before, inside, len(parameters))
"""


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads /proc")
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_weights_stay_in_the_memory_mapped_file(activation: str, tmp_path: Path) -> None:
    """Also those of OpenCLIP, whose joined and transposed matrices are views too."""
    text = CLIPTextConfig(1024, 7, 16, activation, projection=1024 if activation == "gelu" else 0)
    state = {"text": {k: torch.empty(v.shape).half() for k, v in blank(text).state_dict().items()}}
    path = tmp_path / "x.safetensors"
    write_ldm(path, state, Description(family="text", text=(text,)))
    assert path.stat().st_size > 200e6
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", PROBE, str(path)], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    grown, inside, parameters = map(int, ran.stdout.split())
    assert inside == parameters
    assert grown < 0.1 * path.stat().st_size


def test_shards_are_one_model(folder: Path) -> None:
    before = weights(folder)
    shard(folder / "unet")
    shard(folder / "text_encoder", "model")
    after = weights(folder)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert len(open_checkpoint(folder).files) == 7


def test_half_precision_is_taken_when_asked_for_or_alone(folder: Path) -> None:
    for part, name in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        whole = load_file(folder / part / f"{name}.safetensors")
        save_file({key: tensor.float() for key, tensor in whole.items()}, folder / part / f"{name}.safetensors")
        save_file(whole, folder / part / f"{name}.fp16.safetensors")
    assert {tensor.dtype for tensor in weights(folder).values()} == {torch.float32}
    halves = open_checkpoint(folder, variant="fp16")
    assert {info.dtype for info in halves.tensors.values()} == {torch.float16}
    assert identify(halves) == identify(open_checkpoint(folder))
    with pytest.raises(CheckpointError, match="no weights of variant 'bf16'"):
        open_checkpoint(folder, variant="bf16")
    for plain in folder.rglob("*l.safetensors"):
        plain.unlink()
    assert {tensor.dtype for tensor in weights(folder).values()} == {torch.float16}


def test_one_part_of_a_folder_can_be_opened(folder: Path) -> None:
    identity = identify(open_checkpoint(folder / "vae"))
    assert (identity.family, identity.vae) == ("vae", MODEL.vae)
    assert identify(open_checkpoint(folder / "unet")).unet == MODEL.unet


def test_code_in_a_folder_is_never_run(folder: Path, tmp_path: Path) -> None:
    (folder / "pipeline.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"custom_pipeline": "pipeline.py"}))
    identity = identify(open_checkpoint(folder))
    assert "it comes with code of its own, which is not run" in identity.notes
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["../vae/diffusion_pytorch_model.safetensors", "/etc/passwd", "", 3, "a\\b", "unet/x"])
def test_an_index_names_files_beside_it_only(name: object, folder: Path) -> None:
    shard(folder / "unet")
    (folder / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CheckpointError, match="is not the name of a file beside it"):
        open_checkpoint(folder)


def test_a_missing_shard_is_named(folder: Path) -> None:
    lost = folder / "unet" / shard(folder / "unet")[1]
    lost.unlink()
    with pytest.raises(CheckpointError, match="this shard is missing") as caught:
        open_checkpoint(folder)
    assert str(lost) in str(caught.value)


def test_a_tensor_in_two_shards_is_an_error(folder: Path) -> None:
    names = shard(folder / "unet")
    first = load_file(folder / "unet" / names[0])
    save_file({**load_file(folder / "unet" / names[1]), **first}, folder / "unet" / names[1])
    with pytest.raises(CheckpointError, match="in another shard too"):
        open_checkpoint(folder)


@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000, '"x"', "\xff"])
def test_a_broken_json_file_is_named(content: str, folder: Path) -> None:
    (folder / "unet/config.json").write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError, match="JSON") as caught:
        open_checkpoint(folder)
    assert caught.value.path == folder / "unet/config.json"


def test_what_is_not_there_or_empty_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        open_checkpoint(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="no weights in this folder"):
        open_checkpoint(tmp_path)
    for content in (b"", b"{}", b"GGUF" * 9):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(CheckpointError):
            open_checkpoint(tmp_path / "x")


def test_a_missing_tensor_names_file_key_and_shape(original: Path, tmp_path: Path) -> None:
    tensors, key = load_file(original), "first_stage_model.decoder.conv_out.bias"
    del tensors[key]
    save_file(tensors, tmp_path / "damaged")
    checkpoint = open_checkpoint(tmp_path / "damaged")
    identity = identify(checkpoint)
    assert identity.missing == (key,)
    read_component(checkpoint, identity, "unet")
    with pytest.raises(CheckpointError, match=r"the tensor is missing; expected \[3\]") as caught:
        read_component(checkpoint, identity, "vae")
    assert caught.value.key == key
    assert str(tmp_path / "damaged") in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (torch.zeros(4), r"the shape is \[4\]; expected \[3\]"),
        (torch.zeros(3, dtype=torch.int32), "of type int32; expected"),
        (torch.zeros(3, dtype=torch.bool), "of type bool; expected"),
    ],
)
def test_a_wrong_shape_or_type_names_expected_and_found(
    wrong: Tensor, complaint: str, original: Path, tmp_path: Path
) -> None:
    save_file(load_file(original) | {"first_stage_model.decoder.conv_out.bias": wrong}, tmp_path / "damaged")
    checkpoint = open_checkpoint(tmp_path / "damaged")
    with pytest.raises(CheckpointError, match=complaint):
        read_component(checkpoint, identify(checkpoint), "vae")


def test_a_part_that_is_not_there_is_an_error(original: Path) -> None:
    checkpoint = open_checkpoint(original)
    with pytest.raises(CheckpointError, match="there is no text2 in it"):
        read_component(checkpoint, identify(checkpoint), "text2")
    with pytest.raises(CheckpointError, match="no such tensor"):
        checkpoint.tensor("x")


def test_hashes_are_of_the_bytes(original: Path, folder: Path) -> None:
    def sums(*names: str) -> str:
        return subprocess.run(["sha256sum", *names], capture_output=True, text=True, check=True, cwd=folder).stdout

    assert sums(str(original)).split()[0] == open_checkpoint(original).sha256
    listed = sums(*sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.safetensors")))
    (folder / "list").write_text(listed)
    assert sums("list").split()[0] == open_checkpoint(folder).sha256


def test_sizes_are_those_of_the_tensors(original: Path) -> None:
    assert open_checkpoint(original).nbytes == sum(t.nbytes for t in load_file(original).values())


@given(
    shape=st.lists(st.integers(1, 5), min_size=2, max_size=2).map(tuple),
    reshape=st.sampled_from(["same", "squeeze_1x1", "transpose"]),
)
def test_every_reshape_is_undone(shape: tuple[int, ...], reshape: str) -> None:
    source = Source("x", shape, reshape)
    native = torch.randn(shape)
    stored = source.to_stored([native])
    assert tuple(stored.shape) == source.stored
    assert source.accepts(tuple(stored.shape))
    assert torch.equal(source.to_native(stored), native)
    assert source.to_native(stored).data_ptr() == stored.data_ptr(), "reading makes no copy"


@given(shape=st.lists(st.integers(1, 5), min_size=1, max_size=2).map(tuple))
def test_thirds_are_put_together_and_taken_apart(shape: tuple[int, ...]) -> None:
    sources = [Source("x", shape, f"split_{x}") for x in "qkv"]
    native = list(torch.randn(3, *shape))
    stored = sources[0].to_stored(native)
    assert tuple(stored.shape) == sources[0].stored
    assert all(torch.equal(source.to_native(stored), tensor) for source, tensor in zip(sources, native, strict=True))
