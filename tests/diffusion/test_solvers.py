"""Each sampler's own promise: its order, what it equals in a special case, and what its settings do."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from daguerre.diffusion.denoiser import Cond, RectifiedFlow, VarianceExploding, noised, with_negative
from daguerre.diffusion.guidance import ClassifierFree, Interval
from daguerre.diffusion.noise import brownian, fresh, initial
from daguerre.diffusion.samplers import SAMPLERS
from daguerre.diffusion.samplers import linear as slopes
from daguerre.diffusion.samplers.adaptive import dpm_fast
from daguerre.diffusion.samplers.churn import Churn
from daguerre.diffusion.samplers.corrected import predictor_corrector, unipc, unipc_bh2
from daguerre.diffusion.samplers.multistep import dpmpp_2m, dpmpp_2m_sde_heun, res_multistep
from daguerre.diffusion.samplers.restart import restarted
from daguerre.diffusion.samplers.singlestep import dpm2, exp_heun, seeds, seeds_2
from daguerre.diffusion.samplers.weights import adams, exact, midpoint
from daguerre.diffusion.schedule import SCHEDULES, scaled_linear
from daguerre.request import RequestError, TextToImage

COND = Cond(torch.zeros(1, 1, 1))
LEVELS = scaled_linear()
SPREAD = 0.7  # standard deviation of the data
EXPLODING, FLOW = VarianceExploding(), RectifiedFlow()
SHAPE = (4, 8, 8)


def gaussian(x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
    """E[x0 | x] for data of mean 0."""
    return SPREAD**2 * x / (SPREAD**2 + sigma**2)


def bent(x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
    return (x / (1 + sigma)).sin() + cond.tokens.mean()


def silence(sigma: Tensor, sigma_next: Tensor) -> Tensor:
    raise AssertionError("no noise was due")


def last(sample, x, sigmas, noise=silence, denoise=bent, **settings) -> Tensor:
    *_, step = sample(denoise, x, sigmas, COND, EXPLODING, noise, **settings)
    return step.x


def error(sample, n: int) -> float:
    """Against the exact solution of the ODE after n steps; in float64, for high orders.

    Begun where there is hardly any curve, so that first steps of low order do not count, and four steps from the end,
    where some methods go down to low order.
    """
    sigmas = torch.linspace(math.log(1000), math.log(0.3), n + 1, dtype=torch.float64)
    sigmas = torch.cat([sigmas, sigmas[-1] + sigmas.diff()[0] * torch.arange(1, 5)]).exp()
    start, end = ((SPREAD**2 + sigmas[i] ** 2).sqrt() for i in (0, n))
    steps = list(sample(gaussian, start.reshape(1, 1, 1, 1), sigmas, COND, EXPLODING, silence))
    return abs(steps[n - 1].x.item() - end.item())


@pytest.mark.parametrize(
    ("sample", "order"),
    [
        (dpm2, 2),
        (exp_heun, 2),
        (partial(seeds_2, eta=0.0), 2),
        (partial(seeds, eta=0.0), 3),
        (res_multistep, 2),
        (slopes.lms, 4),
        (slopes.ipndm_v, 4),
        (predictor_corrector, 4),
        (unipc, 4),
        (unipc_bh2, 4),
        (partial(SAMPLERS["DPM++ 3M SDE"].sample, eta=0.0), 2),
        (SAMPLERS["HeunPP2"].sample, 1),
        (slopes.ipndm, 2),
        (slopes.gradient_estimation, 1),
    ],
)
def test_order_of_convergence(sample, order: int) -> None:
    coarse, fine = error(sample, 256), error(sample, 512)
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.35)


def test_dpm_fast_is_of_third_order_in_its_calls() -> None:
    """Its levels are its own, so that the exact end is where it says that it ends."""

    def error(calls: int) -> float:
        sigmas = torch.tensor([10.0, *torch.linspace(9, 0.1, calls).tolist()], dtype=torch.float64)
        start, end = (math.hypot(SPREAD, sigma) for sigma in (10.0, 0.1))
        x = torch.full((1, 1, 1, 1), start, dtype=torch.float64)
        return abs(last(dpm_fast, x, sigmas, denoise=gaussian, eta=0.0).item() - end)

    assert error(62) < 1e-3
    assert math.log2(error(32) / error(62)) > 2.5


def test_weights_integrate_polynomials_and_exponentials() -> None:
    nodes = [-1.3, -0.4, 0.0]
    for power in range(3):
        found = sum(w * node**power for w, node in zip(adams(nodes, 0.8), nodes, strict=True))
        assert found == pytest.approx(0.8 ** (power + 1) / (power + 1))
    assert sum(adams(nodes, 0.8, growth=2.0)) == pytest.approx((1 - math.exp(-1.6)) / 2)
    # Half of the change counts in a short step, all of it in an endless one.
    assert [exact(k) for k in (1e-3, 50.0, math.inf)] == pytest.approx([0.5, 0.98, 1.0], abs=1e-3)
    assert midpoint(3.0) == 0.5


def test_what_is_the_same_by_other_names() -> None:
    sigmas, x = SCHEDULES["karras"](LEVELS, 12), 14.6 * initial([3], SHAPE)
    heun = partial(dpmpp_2m_sde_heun, eta=0.0)
    assert torch.allclose(last(res_multistep, x, sigmas), last(heun, x, sigmas), atol=1e-5)
    assert not torch.allclose(last(res_multistep, x, sigmas), last(dpmpp_2m, x, sigmas), atol=1e-3)
    # On evenly spaced levels the coefficients of IPNDM are those of the polynomial.
    even = torch.linspace(10, 1, 10)
    assert torch.allclose(last(slopes.ipndm, x, even), last(slopes.ipndm_v, x, even), atol=1e-5)
    assert not torch.allclose(last(slopes.ipndm, x, sigmas), last(slopes.ipndm_v, x, sigmas), atol=1e-3)
    assert torch.equal(last(slopes.lms, x, even), last(slopes.ipndm_v, x, even))
    # Without renewal SA-Solver is the ODE's predictor and corrector.
    found = last(SAMPLERS["SA-Solver"].sample, x, sigmas, eta=0.0)
    assert torch.equal(found, last(predictor_corrector, x, sigmas, spared=1))


NOISY = [name for name, spec in SAMPLERS.items() if "eta" in spec.settings]


@pytest.mark.parametrize("name", NOISY)
def test_no_noise_at_eta_0(name: str) -> None:
    """The same whatever the source, and otherwise than with noise."""
    spec = SAMPLERS[name]
    sigmas = spec.sigmas(spec.schedule, LEVELS, 8)
    x = spec.start(initial([3], SHAPE), sigmas[0], EXPLODING)
    denoise = ClassifierFree(bent, COND._replace(tokens=torch.ones(1, 1, 1)), 2.0, batched=False)
    quiet = last(spec.sample, x, sigmas, denoise=denoise, eta=0.0)
    loud = last(spec.sample, x, sigmas, fresh([3], SHAPE), denoise, eta=1.0)
    assert not torch.allclose(quiet, loud, atol=0.05)


@pytest.mark.parametrize("name", SAMPLERS)
def test_same_seed_same_bits_and_stopping_anywhere(name: str) -> None:
    spec = SAMPLERS[name]
    sigmas = spec.sigmas(spec.schedule, LEVELS, 7)
    denoise = ClassifierFree(bent, COND._replace(tokens=torch.ones(1, 1, 1)), 2.0, batched=False)

    def begin():
        low, high = sigmas[sigmas > 0].min().item(), sigmas[0].item()
        noise = brownian([3], SHAPE, low, high) if spec.noise == "brownian" else fresh([3], SHAPE)
        x = spec.start(initial([3], SHAPE), sigmas[0], EXPLODING)
        return spec.sample(denoise, x, sigmas, COND, EXPLODING, noise)

    states = [step.x for step in begin()]
    assert all(x.isfinite().all() for x in states)
    for stop in range(1, len(states)):
        steps = begin()
        assert [torch.equal(next(steps).x, state) for state in states[:stop]] == [True] * stop
        steps.close()


@pytest.mark.parametrize("name", [name for name, spec in SAMPLERS.items() if not spec.flow])
def test_flow_is_refused_by_name(name: str) -> None:
    with pytest.raises(RequestError, match=f"sampler '{name}' does not work for flow".replace("+", r"\+")):
        SAMPLERS[name].start(torch.zeros(1, 1, 1, 1), torch.tensor(1.0), FLOW)


def test_restart_spends_the_steps_that_were_asked_for() -> None:
    """And goes up again between the levels nearest to 0.1 and 2."""
    for n in (5, 19, 20, 35, 36, 60):
        walks = restarted(SCHEDULES["karras"](LEVELS, n))
        assert sum(len(walk) - 1 for walk in walks) == n
        assert len(walks) == (1 if n < 20 else 3 if n < 36 else 4)
        for walk in walks:
            assert (walk.diff() < 0).all()
        for above, below in pairwise(walks):
            assert below[0] in (above[-1], *walks[0])
        if len(walks) > 1:
            assert walks[1][0].item() == pytest.approx(2, rel=0.3)
            assert walks[1][-1] == walks[0][-1] == walks[-1][0]


def test_noised_adds_what_is_missing() -> None:
    noise, x = initial([1], (1, 64, 64)), initial([2], (1, 64, 64))
    assert noised(EXPLODING, 0.5 * x, torch.tensor(0.5), torch.tensor(1.3), noise).std().item() == pytest.approx(
        1.3, rel=0.03
    )
    state = noised(FLOW, 0.8 + 0.2 * x, torch.tensor(0.2), torch.tensor(0.6), noise)
    assert state.mean().item() == pytest.approx(0.4, abs=0.03)
    assert state.std().item() == pytest.approx(0.6, rel=0.03)


@pytest.mark.parametrize("name", ["Euler", "Heun", "DPM2", "HeunPP2"])
def test_churn(name: str) -> None:
    sample = SAMPLERS[name].sample
    sigmas, x = SCHEDULES["karras"](LEVELS, 8), 14.6 * initial([3], SHAPE)
    plain = last(sample, x, sigmas)
    assert not torch.allclose(last(sample, x, sigmas, fresh([3], SHAPE), churn=Churn(4.0)), plain, atol=0.01)
    outside = Churn(4.0, s_tmin=20.0)
    assert torch.equal(last(sample, x, sigmas, fresh([3], SHAPE), churn=outside), plain)
    with pytest.raises(RequestError, match="s_churn does not work for flow models"):
        next(sample(bent, x, torch.tensor([0.9, 0.0]), COND, FLOW, silence, churn=Churn(4.0)))


def test_the_settings_of_a_request_reach_the_samplers_that_take_them() -> None:
    def settings(name: str, **values) -> dict:
        return SAMPLERS[name].sampler(TextToImage(prompt="", **values), LEVELS).keywords

    assert settings("Euler a") == {"s_noise": 1.0}
    assert settings("Euler a", eta=0.3, s_noise=1.1) == {"eta": 0.3, "s_noise": 1.1}
    assert settings("Euler", eta=0.3, s_churn=5, s_tmin=0.1) == {"churn": Churn(5, 0.1, math.inf, 1.0)}
    assert settings("Euler", s_churn=5, s_tmax=9)["churn"].s_tmax == 9
    assert settings("DDIM", eta=1.0, s_noise=1.1) == {"eta": 1.0}
    assert settings("TCD", eta=0.5) == {"eta": 0.5, "levels": LEVELS}
    assert settings("LCM", eta=0.5) == {}
    assert settings("DPM++ 2M", eta=0.5) == {"eta": 0.0}  # which makes it what it is


def test_levels_of_samplers_that_ask_for_their_own() -> None:
    """As A1111: one level more without the last but one, and down to the lowest trained level."""
    for name in ("DPM2", "DPM2 a", "DPM++ 3M SDE"):
        more = SCHEDULES["karras"](LEVELS, 9).tolist()
        assert SAMPLERS[name].sigmas("karras", LEVELS, 8).tolist() == [*more[:-2], 0]
        assert len(SAMPLERS[name].sigmas("ddim_uniform", LEVELS, 1000)) == 1001
    assert SAMPLERS["DPM fast"].sigmas("karras", LEVELS, 1).tolist() == LEVELS.sigmas[[-1, 0]].tolist()
    assert SAMPLERS["Euler"].sigmas("karras", LEVELS, 8, rho=3.0)[1] != SAMPLERS["Euler"].sigmas("karras", LEVELS, 8)[1]


def test_cfgpp_goes_along_the_negative_estimate() -> None:
    negative = COND._replace(tokens=torch.ones(1, 1, 1))
    guided = ClassifierFree(bent, negative, 1.5, batched=False)
    x, sigmas = 14.6 * initial([3], SHAPE), torch.tensor([14.6, 3.0])
    x0, away = bent(x, sigmas[0], COND), bent(x, sigmas[0], negative)
    x0 = away + 1.5 * (x0 - away)
    for name in ("Euler CFG++", "Gradient Estimation CFG++", "DPM++ 2M CFG++", "Res Multistep CFG++"):
        found = last(SAMPLERS[name].sample, x, sigmas, denoise=guided)
        assert torch.allclose(found, x0 + 3.0 * (x - away) / 14.6, atol=1e-5)
        assert not torch.allclose(found, x0 + 3.0 * (x - x0) / 14.6, atol=1e-2)
    share = away + (x0 - away) / 12.5
    found = last(SAMPLERS["DDIM CFG++"].sample, x, sigmas, denoise=guided)
    assert torch.allclose(found, (share + 3.0 * (x - away) / 14.6) / 10**0.5, atol=1e-5)


def test_cfgpp_with_a_memory() -> None:
    """ComfyUI's weights: slopes led on by 0.1, steps by 0.25 of Adams and Bashforth's, an end on a line at 0."""
    negative = COND._replace(tokens=torch.ones(1, 1, 1))
    guided = ClassifierFree(bent, negative, 1.5, batched=False)
    levels = (14.6, 3.0, 1.0)
    x = [14.6 * initial([3], SHAPE)]
    x0s, slopes_, changes = [], [], []
    for i, (a, b) in enumerate(zip(levels, (*levels[1:], 0.0), strict=True)):
        p, n = (bent(x[-1], torch.tensor(a), cond) for cond in (COND, negative))
        x0s.append(n + 1.5 * (p - n))
        slopes_.append((x[-1] - n) / a)
        if i == 2:
            x.append(line((levels[1], x0s[1]), (levels[2], x0s[2]), at=0.0))
            break
        led = slopes_[i] + (0.1 * (line((levels[0], slopes_[0]), (a, slopes_[1]), at=b) - slopes_[1]) if i else 0)
        changes.append((x0s[i] + b * led - x[-1]) / (b - a))
        adams_bashforth = line((levels[0], changes[0]), (a, changes[1]), at=(a + b) / 2) if i else changes[0]
        x.append(x[-1] + (b - a) * (0.75 * changes[i] + 0.25 * adams_bashforth))
    steps = SAMPLERS["CFG++ UD10 AB"].sample(guided, x[0], torch.tensor([*levels, 0.0]), COND, EXPLODING, silence)
    for step, expected in zip(steps, x[1:], strict=True):
        assert torch.allclose(step.x, expected, atol=1e-4)
    *_, plain = SAMPLERS["Euler CFG++"].sample(guided, x[0], torch.tensor([*levels, 0.0]), COND, EXPLODING, silence)
    assert not torch.allclose(plain.x, x[-1], atol=1e-2)


def line(first: tuple[float, Tensor], second: tuple[float, Tensor], at: float) -> Tensor:
    """What lies at a noise level on the line through two values."""
    (a, x), (b, y) = first, second
    return y + (at - b) / (b - a) * (y - x)


def test_cfgpp_takes_plain_steps_outside_of_the_guidance_interval() -> None:
    negative = COND._replace(tokens=torch.ones(1, 1, 1))
    guidance = ClassifierFree(bent, negative, 1.5, batched=False)
    guided = Interval(guidance, guidance.positive, low=2.0, high=6.0)
    x, sigmas = 14.6 * initial([3], SHAPE), torch.tensor([14.6, 5.0, 1.0, 0.3])
    outside = bent(x, sigmas[0], COND)
    expected = [outside + 5.0 * (x - outside) / 14.6]
    p, n = (bent(expected[0], sigmas[1], cond) for cond in (COND, negative))
    expected.append(n + 1.5 * (p - n) + 1.0 * (expected[0] - n) / 5.0)
    outside = bent(expected[1], sigmas[2], COND)
    expected.append(outside + 0.3 * (expected[1] - outside) / 1.0)
    for end, state in enumerate(expected, 2):
        found = last(SAMPLERS["Euler CFG++"].sample, x, sigmas[:end], denoise=guided)
        assert torch.allclose(found, state, atol=1e-5)
    assert not torch.allclose(last(SAMPLERS["Euler CFG++"].sample, x, sigmas, denoise=guidance), state, atol=1e-2)


def test_cfgpp_asks_for_a_negative_estimate() -> None:
    with pytest.raises(RequestError, match=r"CFG\+\+ samplers go by .* take a sampler without CFG\+\+"):
        last(SAMPLERS["Euler CFG++"].sample, initial([1], SHAPE), torch.tensor([1.0, 0.0]))
    sigma, x = torch.tensor(1.0), initial([1], SHAPE)
    both = with_negative(
        ClassifierFree(bent, COND._replace(tokens=torch.ones(1, 1, 1)), 1.0, batched=False), x, sigma, COND
    )
    assert torch.allclose(both[1] - both[0], torch.ones(()))


@pytest.mark.parametrize("name", ["DDIM", "PLMS"])
def test_one_step_is_the_clean_estimate_but_for_the_lowest_level(name: str) -> None:
    spec, noise = SAMPLERS[name], initial([1], SHAPE)
    sigmas = spec.sigmas(spec.schedule, LEVELS, 1)
    x0 = torch.full_like(noise, 0.5)
    *_, step = spec.sample(
        lambda x, sigma, cond: x0 if sigma > 1 else -x0,
        spec.start(noise, sigmas[0], EXPLODING),
        sigmas,
        COND,
        EXPLODING,
        silence,
    )
    assert (step.x - x0).abs().max() < 0.2


def test_errors_without_end_shorten_a_step_until_its_numbers_break_down() -> None:
    asked: list[Tensor] = []

    def wild(x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        asked.append(sigma)
        return 1e30 * initial([len(asked)], SHAPE)

    steps = SAMPLERS["DPM adaptive"].sample(
        wild, initial([1], SHAPE), LEVELS.sigmas.flip(0)[:5], COND, EXPLODING, silence
    )
    assert not next(steps).x.isfinite().all()
    assert len(asked) < 100


def test_numbers_that_break_down_are_not_tried_for_ever() -> None:
    steps = SAMPLERS["DPM adaptive"].sample(
        lambda x, sigma, cond: x * math.nan, initial([1], SHAPE), LEVELS.sigmas.flip(0)[:5], COND, EXPLODING, silence
    )
    assert next(steps).x.isnan().all()
    assert len(list(steps)) < 5
