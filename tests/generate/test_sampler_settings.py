"""The settings of samplers and schedules, from a request to its picture and back from its record."""

from dataclasses import replace

import pytest

from daguerre import TextToImage, text_to_image
from daguerre.generate.drawing import Picture
from daguerre.provenance import infotext
from daguerre.provenance.record import Record
from daguerre.request import RequestError
from tests.toy import toy

REQUEST = TextToImage(prompt="a red apple", steps=4, width=64, height=64, seed=7)


def drawn(request: TextToImage) -> Picture:
    (picture,) = [event for event in text_to_image(toy(), request) if isinstance(event, Picture)]
    return picture


def pixels(**changes: object) -> str:
    return drawn(replace(REQUEST, **changes)).record.pixel_sha256


@pytest.mark.parametrize(
    ("sampler", "change"),
    [
        ("Euler a", {"eta": 0.5}),
        ("Euler a", {"s_noise": 1.1}),
        ("Euler a", {"ensd": 31337}),
        ("DDIM", {"eta": 1.0}),
        ("DPM++ 2M SDE", {"eta": 0.0}),
        ("Euler", {"s_churn": 10}),
        ("Heun", {"s_churn": 10, "s_tmin": 0.1, "s_tmax": 5}),
        ("DPM2", {"s_churn": 10, "s_noise": 1.01}),
        ("DPM++ 2M", {"rho": 3.0}),
        ("Euler", {"sigma_max": 10.0}),
        ("Euler", {"sigma_min": 0.2}),
        ("SA-Solver", {"eta": 0.4}),
    ],
)
def test_settings_reach_the_picture(sampler: str, change: dict) -> None:
    assert pixels(sampler=sampler, **change) != pixels(sampler=sampler)


@pytest.mark.parametrize(
    ("sampler", "change"),
    [
        ("Euler", {"eta": 1.0}),
        ("DPM++ 2M", {"eta": 1.0, "s_churn": 10, "s_noise": 1.1, "ensd": 31337}),
        ("Euler", {"s_churn": 10, "s_tmin": 100}),
        ("Euler", {"rho": 3.0}),
    ],
)
def test_settings_that_mean_nothing_change_nothing(sampler: str, change: dict) -> None:
    """As clients send eta = 1 with every sampler."""
    assert pixels(sampler=sampler, **change) == pixels(sampler=sampler)


def test_cfgpp_is_guided_in_an_interval_alone() -> None:
    changes = [{}, {"guidance_interval": (0.5, 1.0)}, {"guidance_interval": (0.0, 0.0)}, {"cfg_scale": 1.0}]
    found = {pixels(sampler="Euler CFG++", negative_prompt="two dogs", **change) for change in changes}
    assert len({*found, pixels(sampler="Euler", cfg_scale=1.0)}) == 5


def test_cfgpp_draws_another_picture_and_knows_the_negative_prompt() -> None:
    assert pixels(sampler="Euler CFG++") != pixels(sampler="Euler")
    assert pixels(sampler="Euler CFG++", negative_prompt="two dogs") != pixels(sampler="Euler CFG++")
    assert pixels(sampler="Euler CFG++", cfg_scale=1.0, negative_prompt="two dogs") != pixels(
        sampler="Euler CFG++", cfg_scale=1.0
    )


def test_records_and_infotexts_tell_them() -> None:
    request = replace(
        REQUEST, sampler="Heun", schedule="KL Optimal", eta=0.5, s_churn=2.5, s_tmin=0.1, s_tmax=9.0, s_noise=1.01,
        ensd=31337, rho=3.0, sigma_min=0.05, sigma_max=12.0,
    )  # fmt: skip
    record = drawn(request).record
    assert Record.from_json(record.to_json()) == record
    text = infotext.write(record)
    assert "Schedule type: KL Optimal" in text
    assert "Eta: 0.5, Sigma churn: 2.5, Sigma tmin: 0.1, Sigma tmax: 9, Sigma noise: 1.01, ENSD: 31337" in text
    read = infotext.to_request(infotext.read(text))
    assert replace(read, variation_seed=request.variation_seed) == replace(request, schedule="kl_optimal")
    plain = infotext.write(drawn(REQUEST).record)
    assert not any(word in plain for word in ("Eta", "Sigma", "ENSD", "rho", "sigma"))
    assert "Eta DDIM: 1" in infotext.write(drawn(replace(REQUEST, sampler="DDIM", eta=1.0)).record)


@pytest.mark.parametrize("field", ["eta", "s_churn", "s_tmin", "s_tmax", "s_noise", "ensd", "rho", "sigma_min"])
@pytest.mark.parametrize("value", [-1, 1e10, float("nan"), "1", True])
def test_impossible_settings_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(RequestError, match=f"{field} is"):
        replace(REQUEST, **{field: value})


def test_the_least_rho_still_draws_and_less_is_refused() -> None:
    """Powers of 1 / rho overflow, and the weights would be blamed."""
    drawn(replace(REQUEST, schedule="karras", rho=0.1))
    with pytest.raises(RequestError, match=r"rho is 0\.001; it must be a number from 0\.1 to 20"):
        replace(REQUEST, rho=0.001)


def test_ends_of_a_schedule_in_the_wrong_order() -> None:
    with pytest.raises(RequestError, match="the lowest noise level, 9, is not below the highest, 3"):
        drawn(replace(REQUEST, sigma_min=9.0, sigma_max=3.0))


def test_a_schedule_with_ends_of_its_own_takes_no_others() -> None:
    with pytest.raises(RequestError, match=r"'align_your_steps' is a list of noise levels .* leave out sigma_min"):
        drawn(replace(REQUEST, sampler="Euler Align Your Steps", sigma_max=5.0))


def test_noise_is_drawn_by_the_generator_that_is_asked_for() -> None:
    """By a torch generator as ever, by CUDA's algorithm, and within SDE samplers by the tree that A1111 has."""
    for sampler, other in (("Euler", 2), ("DPM++ 2M SDE", 3)):
        seen = {noise: pixels(sampler=sampler, noise=noise) for noise in ("cpu", "a1111", "nv")}
        assert len(set(seen.values())) == other
        assert seen["a1111"] == pixels(sampler=sampler, noise="a1111")
    picture = drawn(replace(REQUEST, sampler="DPM++ 2M SDE", noise="nv"))
    told = infotext.write(picture.record)
    assert "RNG: NV" in told
    assert infotext.to_request(infotext.read(told)).noise == "nv"
    assert Record.from_json(picture.record.to_json()).again().noise == "nv"
    with pytest.raises(RequestError, match="noise is 'gpu'; choose one of cpu, a1111, nv"):
        replace(REQUEST, noise="gpu")


def test_sdxl_has_steps_aligned_for_it() -> None:
    def schedule(family: str) -> str:
        request = TextToImage(prompt="x", steps=2, width=64, height=64, seed=1, schedule="align your steps")
        (picture,) = [e for e in text_to_image(toy(family), request) if isinstance(e, Picture)]
        return picture.record.schedule

    assert (schedule("sd1"), schedule("sdxl")) == ("align_your_steps", "align_your_steps_xl")
