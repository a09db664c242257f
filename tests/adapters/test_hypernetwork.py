"""Hypernetworks: what A1111 trained is read without running code and does what its formula says."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from daguerre.adapters.adapted import AdapterFile, adapted
from daguerre.adapters.change import AdapterError
from daguerre.adapters.hypernetwork import Hypernetwork
from daguerre.models.attention import Attention
from tests.adapters.made import apart, outputs, random_lora
from tests.toy import toy

Tree = dict[object, object]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return 0.5 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def trained(width: int = 32, **settings: object) -> Tree:
    """As A1111 saves it: numbers as keys, a pair of state dicts each."""
    pair = tuple(
        {
            "linear.0.weight": normal(2 * width, width, seed=i), "linear.0.bias": normal(2 * width, seed=i + 2),
            "linear.2.weight": normal(2 * width, seed=i + 4), "linear.2.bias": normal(2 * width, seed=i + 6),
            "linear.3.weight": normal(width, 2 * width, seed=i + 8), "linear.3.bias": normal(width, seed=i + 10),
        }
        for i in (0, 1)
    )  # fmt: skip
    noted = {"step": 20_000, "name": "mine", "layer_structure": [1, 2, 1], "activation_func": "relu"}
    noted |= {"is_layer_norm": True, "sd_checkpoint": None, "activate_output": False, "use_dropout": True}
    return {width: pair, **noted, **settings}


class Before(nn.Module):
    """A linear layer behind a hypernetwork, written out."""

    def __init__(self, layer: nn.Module, state: dict[str, Tensor], strength: float, *, activate: bool):
        super().__init__()
        self.layer, self.state, self.strength, self.activate = layer, state, strength, activate
        self.in_features = layer.in_features

    def forward(self, x: Tensor) -> Tensor:
        s = self.state
        h = torch.relu(x @ s["linear.0.weight"].T + s["linear.0.bias"])
        h = F.layer_norm(h, h.shape[-1:], s["linear.2.weight"], s["linear.2.bias"])
        h = h @ s["linear.3.weight"].T + s["linear.3.bias"]
        return self.layer(x + self.strength * (torch.relu(h) if self.activate else h))


@pytest.mark.parametrize("activate", [False, True])
@torch.no_grad()
def test_keys_and_values_see_what_the_formula_says(activate: bool, tmp_path: Path) -> None:
    model, tree = toy("sd1"), trained(activate_output=activate)
    torch.save(tree, tmp_path / "mine.pt")
    plain, network = outputs(model), Hypernetwork.load(tmp_path / "mine.pt", model)
    with network.attach(model, 0.7):
        attached = outputs(model)
    with network.attach(model, 0.0):
        assert apart(outputs(model), plain) == 0
    assert apart(outputs(model), plain) == 0
    keys, values = tree[32]
    wide = [module for module in model.unet.modules() if isinstance(module, Attention) and module.k.in_features == 32]
    assert wide
    for module in wide:
        module.k = Before(module.k, keys, 0.7, activate=activate)
        module.v = Before(module.v, values, 0.7, activate=activate)
    assert apart(outputs(model), attached) <= 1e-5
    assert apart(attached, plain) > 1e-2


@torch.no_grad()
def test_older_names_and_safetensors_and_company(tmp_path: Path) -> None:
    """The first files had two layers called linear1 and linear2, and said nothing of themselves."""
    model = toy("sd1")
    shapes = {"linear1.weight": (64, 32), "linear1.bias": (64,), "linear2.weight": (32, 64), "linear2.bias": (32,)}
    pair = tuple({key: normal(*shape, seed=i) for key, shape in shapes.items()} for i in (1, 2))
    torch.save({32: pair}, tmp_path / "old.pt")
    newer = {key: f"linear.{int(key[6]) - 1}.{key[8:]}" for key in shapes}
    flat = {f"32.{i}.{newer[key]}": value for i, state in enumerate(pair) for key, value in state.items()}
    save_file(flat, tmp_path / "new.safetensors")
    files = [
        AdapterFile(kind="hypernetwork", path=tmp_path / name, weight=0.5) for name in ("old.pt", "new.safetensors")
    ]
    lora, found = random_lora(model).requires_grad_(requires_grad=False), []
    plain = outputs(model)
    for file in files:
        with adapted(model, [file]) as (same, used), lora.attach(same):
            found.append(outputs(same))
        assert [(one.kind, one.weight) for one in used] == [("hypernetwork", 0.5)]
    with lora.attach(model):
        assert apart(outputs(model), found[0]) > 1e-2
    assert apart(*found) == 0
    assert apart(outputs(model), plain) == 0


def broken(**changes: object) -> Tree:
    tree = trained()
    keys, values = tree[32]
    return {**tree, 32: ({**keys, **changes}, values)}


BROKEN = {
    "for SD 1": (trained(768), r"\[768\].*Stable Diffusion 1.x.*\[32, 64\]"),
    "for SD 2": (trained(1024), "Stable Diffusion 2.x"),
    "one network": ({32: (trained()[32][0],)}, "values is missing"),
    "NaN": (broken(**{"linear.0.bias": torch.full((64,), torch.nan)}), "32.0.linear.0.bias.*not finite"),
    "wide": (broken(**{"linear.0.weight": torch.ones(64, 33)}), "32.linear.0.*32 features"),
    "three-dimensional": (broken(**{"linear.0.weight": torch.ones(64, 32, 1)}), "32.linear.0"),
    "no bias": ({32: tuple({"linear.0.weight": torch.ones(32, 32)} for _ in "kv")}, "32.linear.0"),
    "narrow at its end": (broken(**{"linear.3.weight": normal(31, 64), "linear.3.bias": normal(31)}), "become 31"),
    "of another kind": ({"emb_params": torch.ones(1, 32)}, "emb_params.*no hypernetwork"),
    "an unknown activation": (trained(activation_func="os.system"), "activation_func.*os.system"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_files_are_named(fault: str, tmp_path: Path) -> None:
    tree, words = BROKEN[fault]
    torch.save(tree, path := tmp_path / "x.pt")
    with pytest.raises(AdapterError, match=words) as caught:
        Hypernetwork.load(path, toy("sd1"))
    assert str(path) in str(caught.value)


def test_no_file_runs_code_and_no_compiled_network_is_deceived(tmp_path: Path) -> None:
    path, model = tmp_path / "x.pt", toy("sd1")
    path.write_bytes(b"\x80\x04cposix\nsystem\n(S'true'\ntR.")
    with pytest.raises(AdapterError, match=r"could run code|no readable"):
        Hypernetwork.load(path, model)
    torch.save(trained(), path)
    network = Hypernetwork.load(path, model)
    model.unet.compile(backend="eager")
    with pytest.raises(AdapterError, match="compiled"), network.attach(model):
        pass
