"""Guides against those of diffusers at toy width, by numbers; float32, at most 1e-5 of the largest value."""

from functools import cache, partial
from types import SimpleNamespace

import diffusers
import pytest
import torch
from diffusers.guiders import adaptive_projected_guidance as apg
from diffusers.guiders import tangential_classifier_free_guidance as tcfg
from diffusers.hooks.smoothed_energy_guidance_utils import _gaussian_blur_2d
from diffusers.models.attention_processor import PAGCFGIdentitySelfAttnProcessor2_0
from diffusers.pipelines.deprecated.stable_diffusion_sag import pipeline_stable_diffusion_sag as sag
from diffusers.pipelines.pag.pag_utils import PAGMixin

from daguerre.checkpoints.identify import identify, read_component
from daguerre.checkpoints.tables import blank
from daguerre.diffusion.denoiser import Cond
from daguerre.diffusion.guidance import ClassifierFree, Guided
from daguerre.diffusion.guidance.blur import blur
from daguerre.diffusion.guidance.pairs import AdaptiveProjected, Tangential, ZeroStar
from daguerre.diffusion.guidance.terms import Against, SelfAttention
from daguerre.diffusion.prediction import Epsilon
from daguerre.diffusion.schedule import scaled_linear
from daguerre.generate.perturbations import Watch, freed, perturbed, self_attentions, within
from daguerre.models.unet import UNet
from daguerre.request import FreeU
from tests.parity.test_unet import FAMILIES, opened, reference

LEVELS = scaled_linear()
T = 601  # a timestep
SIGMA = LEVELS.sigmas[T]
SCALE = 5.0


@cache
def networks() -> tuple[diffusers.UNet2DConditionModel, UNet]:
    """Theirs and ours, with the same weights."""
    torch.manual_seed(0)
    theirs = reference(**FAMILIES["sd1"]).requires_grad_(requires_grad=False)
    checkpoint = opened(theirs, theirs.to_json_string())
    identity = identify(checkpoint)
    ours = blank(identity.unet).eval().requires_grad_(requires_grad=False)
    ours.load_state_dict(read_component(checkpoint, identity, "unet"), assign=True)
    return theirs, ours


@pytest.fixture
def numbers() -> SimpleNamespace:
    """Latents at SIGMA in our scale and in theirs, two conditions, and two estimates of noise."""
    torch.manual_seed(1)
    x = torch.randn(1, 4, 8, 12) * (1 + SIGMA**2).sqrt()
    tokens = torch.randn(2, 7, 24)
    return SimpleNamespace(
        x=x,
        scaled=x / (1 + SIGMA**2).sqrt(),
        positive=tokens[:1],
        negative=tokens[1:],
        noises=torch.randn(3, 2, 4, 8, 12),
    )


def assert_close(ours: torch.Tensor, theirs: torch.Tensor, limit: float = 1e-5) -> None:
    assert (ours - theirs).abs().max() <= limit * theirs.abs().max()


def noise(numbers: SimpleNamespace, x0: torch.Tensor) -> torch.Tensor:
    """What the network would have predicted, for an estimate."""
    return (numbers.x - x0) / SIGMA


def unguided(unet: UNet) -> Epsilon:
    return Epsilon(unet, LEVELS)


def asked(unet: torch.nn.Module, scaled: torch.Tensor, *tokens: torch.Tensor) -> torch.Tensor:
    """Their network's noise for several conditions."""
    count = len(tokens)
    return unet(torch.cat([scaled] * count), torch.full((count,), T), torch.cat(tokens)).sample


@pytest.mark.parametrize("momentum", [0.0, -0.5])
@pytest.mark.parametrize(("eta", "threshold"), [(1.0, 0.0), (0.0, 0.0), (0.5, 10.0), (0.0, 3.0)])
def test_adaptive_projection(numbers, eta, threshold, momentum) -> None:
    ours = AdaptiveProjected(eta, threshold, momentum)
    buffer = apg.MomentumBuffer(momentum)
    for positive, negative in (n.unsqueeze(1) for n in numbers.noises):
        changed = ours(numbers.x, SIGMA, positive, negative)[1]
        theirs = apg.normalized_guidance(positive, negative, SCALE - 1, buffer, eta, threshold, True)
        assert_close(changed + SCALE * (positive - changed), theirs)


def test_zero_star(numbers) -> None:
    positive, negative = numbers.noises[:2]
    ours = ZeroStar(torch.ones_like)
    x0 = [numbers.x - SIGMA * n for n in (positive, negative)]
    p, n = (noise(numbers, estimate) for estimate in ours(numbers.x, SIGMA, *x0))
    guider = diffusers.guiders.ClassifierFreeZeroStarGuidance(SCALE, zero_init_steps=0)
    guider.set_state(0, 20, torch.tensor(T))
    theirs = guider.forward(positive, negative).pred
    assert_close(n + SCALE * (p - n), theirs)


def test_tangential_damping(numbers) -> None:
    positive, negative = numbers.noises[:2]
    x0 = [numbers.x - SIGMA * n for n in (positive, negative)]
    p, n = (
        noise(numbers, estimate)
        for estimate in Tangential(torch.ones_like)(numbers.x.expand(2, -1, -1, -1), SIGMA, *x0)
    )
    assert_close(n + SCALE * (p - n), tcfg.normalized_guidance(positive, negative, SCALE), 1e-4)  # theirs is float32


@pytest.mark.parametrize("scale", [SCALE, 1.0])
def test_perturbed_attention(numbers, scale) -> None:
    theirs, ours = networks()
    before = theirs.attn_processors
    theirs.mid_block.attentions[0].transformer_blocks[0].attn1.set_processor(PAGCFGIdentitySelfAttnProcessor2_0())
    predicted = asked(theirs, numbers.scaled, numbers.negative, numbers.positive, numbers.positive)
    theirs.set_attn_processor(before)
    mixin = SimpleNamespace(_get_pag_scale=lambda t: 3.0)
    expected = PAGMixin._apply_perturbed_attention_guidance(mixin, predicted, True, scale, T)

    bare = unguided(ours)
    weak = within(bare, perturbed(ours, self_attentions(ours, "mid_attn", "pag")))
    guidance, worse = (ClassifierFree(inner, Cond(numbers.negative), scale) for inner in (bare, weak))
    guided = Guided(guidance, terms=(Against(worse, lambda sigma: 3.0),))(numbers.x, SIGMA, Cond(numbers.positive))
    assert_close(noise(numbers, guided), expected)
    assert (predicted[1] - predicted[2]).abs().max() > 1e-4


def test_self_attention_guidance(numbers) -> None:
    theirs, ours = networks()
    before, store = theirs.attn_processors, sag.CrossAttnStoreProcessor()
    theirs.mid_block.attentions[0].transformer_blocks[0].attn1.set_processor(store)
    negative, positive = asked(theirs, numbers.scaled, numbers.negative, numbers.positive).chunk(2)
    attention = store.attention_probs.chunk(2)[0]
    theirs.set_attn_processor(before)
    scheduler = diffusers.DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    pipeline = SimpleNamespace(unet=theirs, scheduler=scheduler)
    clean = sag.StableDiffusionSAGPipeline.pred_x0(pipeline, numbers.scaled, negative, T)
    masked = partial(sag.StableDiffusionSAGPipeline.sag_masking, pipeline, clean, attention, (2, 3))
    degraded = masked(torch.tensor(T), negative)
    expected = negative + SCALE * (positive - negative) + 0.75 * (negative - asked(theirs, degraded, numbers.negative))
    assert (degraded - numbers.scaled).abs().max() > 0.1

    bare, watch = unguided(ours), Watch(ours, "sag")
    guidance = ClassifierFree(within(bare, watch.change), Cond(numbers.negative), SCALE)
    term = SelfAttention(ClassifierFree(bare, Cond(numbers.negative), SCALE), watch.attention, 0.75, 1.0, 1.0)
    guided = Guided(guidance, terms=(term,))(numbers.x, SIGMA, Cond(numbers.positive))
    assert_close(noise(numbers, guided), expected, 1e-4)  # their noise goes through sqrt(alpha_bar) and back


def test_freeu(numbers) -> None:
    theirs, ours = networks()
    theirs.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)
    expected = asked(theirs, numbers.scaled, numbers.positive)
    theirs.disable_freeu()
    guide = FreeU(b1=1.5, b2=1.6, s1=0.9, s2=0.2, version=1)
    with freed(ours, guide)(numbers.scaled):
        found = ours(numbers.scaled, torch.tensor([float(T)]), numbers.positive)
    assert_close(found, expected)
    assert (expected - asked(theirs, numbers.scaled, numbers.positive)).abs().max() > 1e-3


@pytest.mark.parametrize("sigma", [0.7, 1.0, 100.0])
def test_the_blur_of_queries(sigma) -> None:
    queries = torch.randn(2, 36, 5)
    size = -(-int(6 * sigma) // 1)
    size = size + 1 - size % 2
    ours = blur(queries.transpose(1, 2).reshape(2, 5, 6, 6), sigma)
    theirs = _gaussian_blur_2d(queries.clone(), size, sigma, 0.0)  # their test for infinity is the wrong way round
    assert_close(ours.flatten(2).transpose(1, 2), theirs)


def test_autoguidance_alone_is_the_papers(numbers) -> None:
    strong, weak = (n[:1] for n in numbers.noises[:2])
    expected = diffusers.guiders.AutoGuidance(2.5, [0], dropout=1.0).forward(strong, weak).pred
    one, other = (ClassifierFree(lambda x, s, c, n=n: x - s * n, Cond(numbers.negative), 1.0) for n in (strong, weak))
    guided = Guided(one, terms=(Against(other, lambda sigma: 1.5),))(numbers.x, SIGMA, Cond(numbers.positive))
    assert_close(noise(numbers, guided), expected)
