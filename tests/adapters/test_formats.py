"""LoRA files of every layout are read as what they are, and none that is broken or foreign is taken."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from daguerre.adapters.change import AdapterError, changeable, layers_of
from daguerre.adapters.formats import load_lora, save_lora
from daguerre.adapters.layer_names import Layout, known_names, written_names
from daguerre.adapters.lora import LoRA
from daguerre.families.model import Model
from tests.adapters.foreign import write_diffusers, write_kohya, write_peft
from tests.adapters.made import KINDS, apart, outputs, random_lora
from tests.toy import toy

LAYOUTS: tuple[Layout, ...] = ("native", "kohya", "diffusers", "peft")


def gap(model: Model, lora: LoRA, other: LoRA) -> float:
    mine, theirs = dict(lora.deltas(model)), dict(other.deltas(model))
    assert mine.keys() == theirs.keys()
    return max((mine[path] - theirs[path]).abs().max().item() for path in mine)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read(kind: str, layout: Layout, dora: bool, tmp_path: Path) -> None:
    model = toy(kind)
    lora = random_lora(model, targets=("*",), ranks={"*attn.q": 2, "*text*": 3}, rank=1, conv_rank=1, dora=dora)
    assert lora.factors.keys() == layers_of(model).keys(), "every layer has a name in every layout"
    path = tmp_path / ("lora" if layout == "peft" else "lora.safetensors")
    save_lora(path, lora, model, layout, {"title": "toys", "author": "me"})
    again, report = load_lora(path, model)
    assert gap(model, lora, again) <= (1e-6 if layout == "diffusers" else 0)  # where alpha is multiplied in
    assert (report.unmatched, report.ignored, report.metadata) == ((), (), {"title": "toys", "author": "me"})
    files = list(path.rglob("*.safetensors")) if path.is_dir() else [path]
    assert len(report.matched) == sum(len(load_file(file)) for file in files)
    assert not again.training
    save_lora(tmp_path / "half.safetensors", lora, model, "kohya", dtype=torch.float16)
    assert 0 < gap(model, lora, load_lora(tmp_path / "half.safetensors", model)[0]) < 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_one_to_one(kind: str) -> None:
    model = toy(kind)
    for layout in LAYOUTS:
        written = written_names(model, layout)
        assert written.keys() == changeable(model).keys()
        by_part = [{name for path, name in written.items() if path.startswith(f"{part}.")} for part in model.parts]
        assert sum(map(len, by_part)) == len(written)
    names = written_names(model, "kohya")
    assert all(known_names(model)[name] == (path,) for path, name in names.items())


def test_metadata_as_other_programs_show_it(tmp_path: Path) -> None:
    model, path = toy("sdxl"), tmp_path / "lora.safetensors"
    save_lora(path, random_lora(model, rank=4, alpha=2.0), model, "kohya", {"title": "toys", "base": {"sha256": "f00"}})
    noted = safe_open(path, "pt").metadata()
    assert noted["ss_network_dim"] == "4"
    assert noted["ss_network_alpha"] == "2"
    assert noted["ss_network_module"] == "networks.lora"
    assert noted["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert noted["modelspec.title"] == "toys"
    assert json.loads(noted["daguerre"])["base"] == {"sha256": "f00"}


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
@torch.no_grad()
def test_files_by_the_rules_of_others_equal_merged_weights(kind: str, dora: bool, tmp_path: Path) -> None:
    targets = ("*attn*", "*.mlp.*", "text.layers*", "text2.layers*")
    model, merged = toy(kind), toy(kind)
    targets = targets if kind == "sdxl" else targets[:3]
    lora = random_lora(model, targets=targets, convolutions=True, dora=dora)
    files = [
        write_kohya(tmp_path / "kohya.safetensors", lora, two_encoders=kind == "sdxl"),
        write_peft(tmp_path / "peft", lora, pattern=False),
        write_peft(tmp_path / "patterns", lora, pattern=True),
    ]
    if not dora:
        files += [write_diffusers(tmp_path / f"{old}.safetensors", lora, old=old) for old in (False, True)]
    lora.merge(merged)
    expected, plain = outputs(merged), outputs(model)
    assert apart(expected, plain) > 0.1
    for file in files:
        loaded, report = load_lora(file, model)
        assert report.unmatched == ()
        with loaded.attach(model):
            assert apart(outputs(model), expected) <= 1e-5, file


@torch.no_grad()
def test_other_spellings_and_shapes(tmp_path: Path) -> None:
    """ldm's names, ComfyUI's prefix, OpenCLIP's joined projections, convolutions for linear layers, three factors."""
    model = toy("sdxl")
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    tensors = {
        "lora_unet_input_blocks_3_1_proj_in": (normal(2, 64), normal(64, 2)),
        "diffusion_model.middle_block.1.proj_in": (normal(2, 64, 1, 1), normal(64, 2, 1, 1)),
        "lora_te2_transformer_resblocks_1_attn_in_proj": (normal(2, 32), normal(96, 2)),
        "lora_unet_input_blocks_1_0_in_layers_2": (normal(2, 64, 1, 1), normal(64, 2, 1, 1)),
    }
    if "encoder.3.attn.proj_in" not in dict(model.unet.named_modules()):
        tensors["lora_unet_input_blocks_2_1_proj_in"] = tensors.pop("lora_unet_input_blocks_3_1_proj_in")
    mid = normal(2, 2, 3, 3)
    file = {f"{name}.lora_down.weight": down for name, (down, _) in tensors.items()}
    file |= {f"{name}.lora_up.weight": up for name, (_, up) in tensors.items()}
    file |= {"lora_unet_input_blocks_1_0_in_layers_2.lora_mid.weight": mid}
    file |= {"lora_te2_transformer_resblocks_1_attn_in_proj.alpha": torch.tensor(1)}
    save_file(file, tmp_path / "odd.safetensors")
    lora, report = load_lora(tmp_path / "odd.safetensors", model)
    assert report.unmatched == ()
    deltas = dict(lora.deltas(model))
    down, up = tensors["lora_te2_transformer_resblocks_1_attn_in_proj"]
    for n, name in enumerate("qkv"):
        assert torch.allclose(deltas[f"text2.layers.1.{name}"], 0.5 * up[32 * n : 32 * n + 32] @ down, atol=1e-6)
    down, up = tensors["diffusion_model.middle_block.1.proj_in"]
    assert torch.allclose(deltas["unet.mid_attn.proj_in"], up.flatten(1) @ down.flatten(1), atol=1e-6)
    down, up = tensors["lora_unet_input_blocks_1_0_in_layers_2"]
    whole = torch.einsum("or,rsij,sc->ocij", up.flatten(1), mid, down.flatten(1))
    assert torch.allclose(deltas["unet.encoder.1.res.conv1"], whole, atol=1e-5)
    assert any("proj_in" in path and path.startswith("unet.encoder") for path in deltas)


@torch.no_grad()
def test_linear_factors_for_a_convolution_of_one_pixel(tmp_path: Path) -> None:
    model, name = toy("sd1"), "lora_unet_mid_block_attentions_0_proj_in"
    down, up = torch.ones(2, 64), torch.ones(64, 2)
    save_file({f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}, tmp_path / "flat.safetensors")
    delta = dict(load_lora(tmp_path / "flat.safetensors", model)[0].deltas(model))["unet.mid_attn.proj_in"]
    assert torch.equal(delta, torch.full((64, 64, 1, 1), 2.0))


@torch.no_grad()
def test_a_pickle_is_read_and_settings_of_diffusers_count(tmp_path: Path) -> None:
    model, name = toy("sd1"), "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    tensors = {f"{name}.lora_A.weight": torch.ones(2, 64), f"{name}.lora_B.weight": torch.ones(64, 2)}
    torch.save(tensors, tmp_path / "lora.pt")
    path = "unet.mid_attn.blocks.0.self_attn.q"
    assert dict(load_lora(tmp_path / "lora.pt", model)[0].deltas(model))[path][0, 0] == 2
    settings = {"unet.r": 2, "unet.lora_alpha": 6, "unet.use_rslora": False}
    save_file(tensors, tmp_path / "a.safetensors", {"lora_adapter_metadata": json.dumps(settings)})
    assert dict(load_lora(tmp_path / "a.safetensors", model)[0].deltas(model))[path][0, 0] == 6
    settings["unet.use_rslora"] = True
    save_file(tensors, tmp_path / "b.safetensors", {"lora_adapter_metadata": json.dumps(settings)})
    delta = dict(load_lora(tmp_path / "b.safetensors", model)[0].deltas(model))[path][0, 0]
    assert abs(delta - 2 * 6 / 2**0.5) < 1e-5


def test_what_fits_nowhere_is_counted(tmp_path: Path) -> None:
    model, path = toy("sd1"), tmp_path / "lora.safetensors"
    save_lora(path, random_lora(model), model, "kohya")
    more = {
        "lora_unet_nowhere.lora_down.weight": torch.ones(1, 2),
        "lora_unet_nowhere.lora_up.weight": torch.ones(2, 1),
    }
    more |= {"bundle_emb.word.string_to_param.*": torch.ones(1, 2), "a_key": torch.ones(1)}
    save_file({**load_file(path), **more}, path)
    report = load_lora(path, model)[1]
    assert set(report.unmatched) == {*more} - {"bundle_emb.word.string_to_param.*"}
    assert report.ignored == ("bundle_emb.word.string_to_param.*",)


NAME = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
GOOD = {f"{NAME}.lora_down.weight": torch.ones(2, 32), f"{NAME}.lora_up.weight": torch.ones(64, 2)}
DOWN, UP = GOOD
BROKEN = {
    "NaN": ({DOWN: torch.full((2, 32), torch.nan)}, DOWN, "not finite"),
    "too large for float32": ({UP: torch.full((64, 2), 1e300, dtype=torch.float64)}, UP, "not finite"),
    "infinite alpha": ({f"{NAME}.alpha": torch.tensor(torch.inf)}, f"{NAME}.alpha", "not finite"),
    "two alphas": ({f"{NAME}.alpha": torch.ones(2)}, f"{NAME}.alpha", "one number"),
    "no common rank": ({DOWN: torch.ones(3, 32)}, DOWN, "[3, 32] (down) and [64, 2] (up)"),
    "no rank": ({DOWN: torch.ones(0, 32), UP: torch.ones(64, 0)}, DOWN, "common rank"),
    "no dimensions": ({DOWN: torch.tensor(1.0)}, DOWN, "common rank"),
    "five dimensions": ({DOWN: torch.ones(2, 32, 1, 1, 1)}, DOWN, "common rank"),
    "of whole numbers": ({UP: torch.ones(64, 2, dtype=torch.int32)}, UP, "torch.int32"),
    "for wider text": ({DOWN: torch.ones(2, 2048)}, UP, "Stable Diffusion XL"),
    "for SD 2": ({DOWN: torch.ones(2, 1024)}, UP, "Stable Diffusion 2.x"),
    "for larger pixels": ({DOWN: torch.ones(2, 32, 3, 3), UP: torch.ones(64, 2, 1, 1)}, UP, "[64, 32, 3, 3]"),
    "magnitudes of few outputs": ({f"{NAME}.dora_scale": torch.ones(32, 1)}, f"{NAME}.dora_scale", "64 outputs"),
    "magnitudes of few inputs": ({f"{NAME}.dora_scale": torch.ones(1, 64)}, f"{NAME}.dora_scale", "32 inputs"),
    "mid of another rank": ({f"{NAME}.lora_mid.weight": torch.ones(3, 3, 1, 1)}, f"{NAME}.lora_mid.weight", "fit"),
    "twice": ({f"{NAME}.lora_A.weight": torch.ones(2, 32)}, f"{NAME}.lora_A.weight", "only one"),
    "twice by other names": (
        {
            key.replace(NAME, "lora_unet_middle_block_1_transformer_blocks_0_attn2_to_k"): v.clone()
            for key, v in GOOD.items()
        },
        "lora_unet_middle_block_1",
        "twice",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_files_are_named(fault: str, tmp_path: Path) -> None:
    change, key, words = BROKEN[fault]
    path = tmp_path / "lora.safetensors"
    save_file(GOOD, path)
    assert load_lora(path, toy("sd1"))[0].factors
    save_file({**GOOD, **change}, path)
    with pytest.raises(AdapterError) as caught:
        load_lora(path, toy("sd1"))
    assert all(word in str(caught.value) for word in (str(path), key, words))


@pytest.mark.parametrize("key", GOOD)
def test_half_a_layer(key: str, tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    save_file({key: GOOD[key]}, path)
    with pytest.raises(AdapterError, match=f"{key}.*other half"):
        load_lora(path, toy("sd1"))


OTHERS = {
    "lora_unet_double_blocks_0_img_attn_proj.lora_down.weight": "Flux",
    "transformer.transformer_blocks.0.attn.to_q.lora_A.weight": "Stable Diffusion 3",
    "lora_te2_text_model_encoder_layers_40_mlp_fc1.lora_down.weight": "Stable Diffusion XL",
    "unet.down_blocks.7.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight": "2.x",
    "base_model.model.mid_block.resnets.0.conv1.oft_R.weight": "peft's OFT",
    "lora_unet_x.oft_diag": "an OFT of a form",
    "320.0.linear.0.weight": "a hypernetwork",
    "emb_params": "textual inversion",
    "model.diffusion_model.input_blocks.0.0.weight": "a whole model",
    "nothing.known": "no LoRA is in it",
}


@pytest.mark.parametrize("key", OTHERS)
def test_nothing_that_fits_is_an_error_that_says_what_it_is(key: str, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    up = key.replace("lora_down", "lora_up").replace("lora_A", "lora_B")
    save_file({key: torch.ones(2, 1024), up: torch.ones(8, 2)} if up != key else {key: torch.ones(2, 1024)}, path)
    with pytest.raises(AdapterError, match=OTHERS[key]) as caught:
        load_lora(path, toy("sd1"))
    assert str(path) in str(caught.value)


def test_hostile_names_and_files(tmp_path: Path) -> None:
    model, path = toy("sd1"), tmp_path / "lora.safetensors"
    save_file({**GOOD, "lora_unet.__class__.lora_up.weight": torch.ones(1)}, path)
    with pytest.raises(AdapterError, match="__class__"):
        load_lora(path, model)
    path.write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(AdapterError, match=r"could run code|no readable"):
        load_lora(path, model)
    with pytest.raises(AdapterError, match="no such file"):
        load_lora(tmp_path / "absent.safetensors", model)
    (tmp_path / "empty").mkdir()
    with pytest.raises(AdapterError, match="adapter_model"):
        load_lora(tmp_path / "empty", model)
    save_file(GOOD, path, {"daguerre": "[" * 100_000})
    with pytest.raises(AdapterError, match="JSON"):
        load_lora(path, model)


@pytest.mark.parametrize("alpha", ["1", None, float("nan"), float("inf"), 10**400, True, [1]])
def test_hostile_settings_of_peft(alpha: object, tmp_path: Path) -> None:
    model, lora = toy("sd1"), random_lora(toy("sd1"))
    folder = write_peft(tmp_path / "peft", lora, pattern=True)
    (folder / "adapter_config.json").write_text(json.dumps({"lora_alpha": alpha}))
    with pytest.raises(AdapterError, match=r"adapter_config\.json.*lora_alpha"):
        load_lora(folder, model)
    patterns = {"(a+)+$": 2, "(.*)*x": 3}
    (folder / "adapter_config.json").write_text(json.dumps({"lora_alpha": 2, "alpha_pattern": patterns}))
    assert load_lora(folder, model)[0].factors


def test_a_peft_folder_that_exists_is_kept(tmp_path: Path) -> None:
    model, lora = toy("sd1"), random_lora(toy("sd1"))
    save_lora(tmp_path / "peft", lora, model, "peft")
    with pytest.raises(FileExistsError):
        save_lora(tmp_path / "peft", lora, model, "peft")
    with pytest.raises(AdapterError):
        save_lora(tmp_path / "other", lora, toy("sdxl"), "peft")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_that_is_not_finite_is_written(layout: Layout, tmp_path: Path) -> None:
    model = toy("sd1")
    for value, dtype in ((torch.nan, torch.float32), (1e6, torch.float16)):
        lora = random_lora(model)
        with torch.no_grad():
            lora.factors["unet.mid_attn.blocks.0.cross_attn.q"].up[0, 0] = value
        with pytest.raises(AdapterError, match=r"'unet\.mid_attn\.blocks\.0\.cross_attn\.q': up"):
            save_lora(tmp_path / "lora", lora, model, layout, dtype=dtype)
        assert not list(tmp_path.iterdir())
