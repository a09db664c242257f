"""A training run as one value: everything that a recipe file may say, with its default."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..adapters.config import LoRAConfig
from ..data.config import Data

RecipeName = Literal["full", "lora", "dreambooth", "inversion", "inpaint", "edit", "adversarial", "consistency"]
Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class Objective:
    weighting: Literal["plain", "min_snr", "debiased", "p2"] = "plain"
    gamma: float = 5.0  # of min-SNR (arXiv:2303.09556) and of P2 (there 1 is usual; arXiv:2204.00227)
    loss: Literal["l2", "huber", "smooth_l1"] = "l2"
    huber: float = 0.1  # where a Huber loss turns from square to line
    huber_schedule: Literal["constant", "exponential", "snr"] = "snr"  # how that place moves with the noise level
    timesteps: Literal["uniform", "logit_normal"] = "uniform"
    mean: float = 0.0  # of logit_normal (arXiv:2403.03206, section 3.1)
    std: float = 1.0
    first: float = 0.0  # share of the noise ladder where training begins and ends: 0 is clean, 1 is noise
    last: float = 1.0
    noise_offset: float = 0.0  # how strong a shift of each whole channel, so that pictures may be dark or bright
    multires: int = 0  # octaves of coarser noise
    multires_discount: float = 0.8
    perlin: float = 0.0  # strength of added Perlin noise
    immiscible: int = 0  # draws of noise, of which each picture takes the best aligned; 0 or 1: just one
    input_perturbation: float = 0.0  # arXiv:2301.11706: extra noise that the target does not know
    zero_snr: bool = False  # stretch the noise ladder to pure noise (arXiv:2305.08891)
    prediction: Literal["", "epsilon", "v", "flow"] = ""  # what the network learns to predict; "": as the base does


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    name: str = "adamw"  # adamw, adafactor, adamw8bit, prodigy, schedule_free, or "module:Class"
    learning_rate: float = 1e-4
    rates: Mapping[str, float] = field(default_factory=dict)  # by shell pattern of the parameter's native name
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    options: Mapping[str, Any] = field(default_factory=dict)  # what else the optimizer's constructor takes
    schedule: Literal["constant", "linear", "cosine", "cosine_restarts", "polynomial", "rex", "inverse_sqrt"] = (
        "constant"
    )
    warmup: int = 0  # steps of linearly rising learning rate
    decay: int = 0  # last steps of linearly falling learning rate, after any schedule; 0: none
    cycles: int = 1  # of cosine_restarts
    power: float = 1.0  # of polynomial
    floor: float = 0.0  # share of the learning rate where schedules end


@dataclass(frozen=True, kw_only=True)
class Loop:
    steps: int = 1000
    batch: int = 4  # of all processes and micro-batches together
    accumulate: int = 1  # micro-batches of a step
    clip: float = 1.0  # largest norm of the gradient; 0: no limit
    ema: float = 0.0  # decay of the averaged weights; 0: the average is the weights themselves
    precision: Precision = "float32"  # of the forward pass; weights stay float32
    checkpointing: bool = False  # compute activations again in the backward pass: less memory, a third more time
    compile: bool = False  # by torch.compile
    shard: bool = False  # of several processes, each holds a part of the weights (FSDP2), not all of them (DDP)
    save_every: int = 250  # steps
    sample_every: int = 250
    validate_every: int = 250
    log_every: int = 10
    keep: int = 2  # checkpoints


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Pictures drawn while training, at fixed seeds."""

    prompts: tuple[str, ...] = ()  # empty: the first captions of the data
    negative: str = ""
    seed: int = 0  # of the first; each next prompt has the next seed
    steps: int = 0  # 0: as many as the base likes
    cfg_scale: float | None = None  # None: as the base likes it
    sampler: str = ""
    width: int = 0  # 0: `data.size`
    height: int = 0


@dataclass(frozen=True, kw_only=True)
class Output:
    layouts: tuple[str, ...] = ()  # LoRA: native, kohya, diffusers, peft; models: ldm, diffusers. Empty: the usual one
    name: str = ""  # of the files; "": the run folder's
    precision: Precision = "float16"
    author: str = ""
    license: str = ""
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class Full:
    """What of the base is trained: shell patterns of native parameter names, such as "unet.*" or "text.*"."""

    train: tuple[str, ...] = ("unet.*",)
    frozen: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DreamBooth:
    """arXiv:2208.12242. The instance's pictures are `data.sources`."""

    prompt: str = ""  # names the subject by a rare word: "a photo of zwx dog"
    class_prompt: str = ""  # "a photo of a dog"; "": no prior preservation
    class_pictures: int = 100  # drawn by the base itself
    prior_weight: float = 1.0
    adapter: bool = True  # train a LoRA, by [lora]; False: the weights that [full] names


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """Textual inversion, arXiv:2208.01618."""

    word: str = ""  # the new word, as prompts will say it
    initializer: str = ""  # words whose vectors it starts from; "": random ones of usual length
    vectors: int = 1
    templates: tuple[
        str, ...
    ] = ()  # captions with {} for the word; empty: the captions of the data, which must hold it


@dataclass(frozen=True, kw_only=True)
class Inpaint:
    """Random masks for a network that also sees mask and masked picture."""

    whole: float = 0.25  # share of masks that cover everything
    smallest: float = 0.05  # share of the picture that a mask covers
    largest: float = 0.8


@dataclass(frozen=True, kw_only=True)
class Edit:
    """InstructPix2Pix, arXiv:2211.09800. The pictures' tables name the picture before in this column."""

    before: str = "before"
    picture_dropout: float = 0.05
    both_dropout: float = 0.05


@dataclass(frozen=True, kw_only=True)
class Adversarial:
    """Adversarial diffusion distillation: arXiv:2311.17042, with the teacher's features as in arXiv:2403.12015."""

    student_steps: tuple[int, ...] = (1, 4)  # numbers of steps that the student learns to draw in
    cfg_scale: float | None = None  # of the teacher; None: as the base likes it
    distillation: float = 2.5  # weight of the distance to the teacher's estimate
    adversary: float = 1.0  # weight of the adversarial term
    adversary_rate: float = 2e-4  # learning rate of the discriminator
    adversary_from: int = 0  # step at which the discriminator and the teacher's estimate join
    gradient_penalty: float = 1e-5  # R1
    pairs: int = 0  # batches that the teacher draws, for the student to learn where noise leads (arXiv:2311.18828)
    pair_steps: int = 16  # that the teacher takes for them
    regression: float = 1.0  # weight of the distance to its pictures


@dataclass(frozen=True, kw_only=True)
class Consistency:
    """Latent consistency distillation: arXiv:2310.04378."""

    stops: int = 40  # of the teacher's solver; 20, 40, 100 are such that 1, 2 and 4 steps of sampling begin at stops
    cfg_scale: float | None = None  # of the teacher; None: as the base likes it
    target_ema: float = 0.95  # decay of the average that the student learns from
    huber: float = 1e-3  # where the loss turns from square to line


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run. `recipe` says which of the tables at the end count."""

    recipe: RecipeName
    run: Path  # folder for config, log, samples, checkpoints, report and results
    base: str = "tintype"  # what to start from: the built-in model, a file or a folder
    seed: int = 0
    device: str | None = None  # None: the best there is
    clip_skip: int = 1  # 1: the text encoder's last layer, 2: the one before
    data: Data = Data()
    objective: Objective = Objective()
    optimizer: Optimizer = Optimizer()
    loop: Loop = Loop()
    samples: Samples = Samples()
    output: Output = Output()
    lora: LoRAConfig = LoRAConfig()
    full: Full = Full()
    dreambooth: DreamBooth = DreamBooth()
    inversion: Inversion = Inversion()
    inpaint: Inpaint = Inpaint()
    edit: Edit = Edit()
    adversarial: Adversarial = Adversarial()
    consistency: Consistency = Consistency()
