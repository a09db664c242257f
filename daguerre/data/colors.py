"""Names of colors, and drawings in another color: in Oklab, where equal distances look equal (Ottosson, 2020)."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

COLORS: Mapping[str, tuple[int, int, int]] = {  # of backgrounds, 0 to 255
    "white": (255, 255, 255), "gray": (150, 150, 150), "black": (20, 20, 20), "red": (214, 48, 49),
    "orange": (247, 148, 29), "yellow": (255, 217, 61), "green": (76, 175, 80), "teal": (0, 150, 150),
    "blue": (52, 120, 220), "purple": (130, 70, 190), "pink": (255, 160, 200), "brown": (121, 75, 40),
}  # fmt: skip
# Of things: lightness 0 to 1, chroma, hue in degrees. Chosen as what the name alone calls to mind.
PAINTS: Mapping[str, tuple[float, float, float]] = {
    "red": (0.57, 0.21, 27), "orange": (0.73, 0.17, 58), "yellow": (0.87, 0.17, 97), "green": (0.65, 0.18, 145),
    "blue": (0.57, 0.18, 257), "purple": (0.51, 0.19, 302), "pink": (0.77, 0.13, 355), "brown": (0.45, 0.09, 55),
}  # fmt: skip
GRAY = 0.045  # chroma below which a color has no hue worth a name
WIDTH = 30.0  # degrees to each side of a hue that are still the same paint
NEAR = 0.14  # distance in Oklab below which a thing is hard to tell from its background

_LINEAR = np.array(
    [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in np.arange(256) / 255], np.float32
)
_CONES = np.array(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
     [0.0883024619, 0.2817188376, 0.6299787005]], np.float32,
)  # fmt: skip
_OPPONENT = np.array(
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
     [0.0259040371, 0.7827717662, -0.8086757660]], np.float32,
)  # fmt: skip
_TO_CONES, _TO_LINEAR = np.linalg.inv(_OPPONENT), np.linalg.inv(_CONES)


def oklab(pixels: Pixels) -> Array:
    """sRGB of 8 bits (..., 3) as lightness 0 to 1 and two opponent axes (..., 3)."""
    lab: Array = np.cbrt(_LINEAR[pixels] @ _CONES.T) @ _OPPONENT.T
    return lab


def srgb(lab: Array) -> Pixels:
    """The inverse of `oklab`; what no screen can show is clipped."""
    linear = np.clip((lab @ _TO_CONES.T) ** 3 @ _TO_LINEAR.T, 0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    pixels: Pixels = (curved * 255 + 0.5).astype(np.uint8)
    return pixels


def hue_of(lab: Array) -> Array:
    """Degrees, 0 to 360."""
    degrees: Array = np.degrees(np.arctan2(lab[..., 2], lab[..., 1])) % 360
    return degrees


def color_name(lab: Array) -> str:
    """What people would call one color (3,): a name of COLORS."""
    lightness, chroma, hue = float(lab[0]), float(np.hypot(lab[1], lab[2])), float(hue_of(lab))
    if chroma < GRAY:
        return "black" if lightness < 0.35 else "white" if lightness > 0.9 else "gray"
    if hue >= 335 or hue < 20:
        return "pink" if lightness > 0.63 else "red" if 5 < hue < 20 else "purple" if hue >= 335 else "red"
    if hue < 95 and lightness < 0.56 and chroma < 0.15:
        return "brown"
    if hue < 42:
        return "pink" if lightness > 0.72 else "red"
    for end, name in ((80, "orange"), (122, "yellow"), (168, "green"), (212, "teal"), (284, "blue")):
        if hue < end:
            return name
    return "purple"


def dominant(pixels: Pixels) -> tuple[Array, bool]:
    """The color of most colored pixels (N, 3), in Oklab, and whether it is the only one.

    Only means: at least 60 % of the pixels are colored, and 90 % of their chroma is within WIDTH of one hue.
    """
    lab = oklab(pixels)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    colored = chroma > GRAY
    weights = np.where(colored, chroma, 0)
    if not weights.sum():
        return lab.mean(0), False
    hues = hue_of(lab)
    bins = np.bincount((hues / 15).astype(int) % 24, weights, 24)
    center = 15 * float(np.argmax(bins + np.roll(bins, 1) + np.roll(bins, -1))) + 7.5
    inside = colored & (_apart(hues, center) <= WIDTH)
    one = colored.mean() >= 0.6 and weights[inside].sum() >= 0.9 * weights.sum()
    return np.median(lab[inside], axis=0), bool(one)


def repaint(pixels: Pixels, was: Array, name: str) -> Pixels:
    """A drawing (..., 3) whose dominant color `was` is turned into a paint, with its shading; other hues, white and
    black stay.

    Hue turns, chroma scales; lightness follows a power curve, so that what was darker stays darker.
    """
    lightness, chroma, hue = PAINTS[name]
    lab = oklab(pixels)
    length = np.hypot(lab[..., 1], lab[..., 2])
    apart = _apart(hue_of(lab), float(hue_of(was)))
    share = np.clip((length - 0.02) / 0.03, 0, 1) * np.clip((WIDTH + 25 - apart) / 20, 0, 1)
    curve = np.clip(np.log(lightness) / np.log(np.clip(was[0], 0.05, 0.97)), 0.3, 3.5)
    scale = chroma / max(float(np.hypot(was[1], was[2])), GRAY)
    turn = np.radians(hue - float(hue_of(was)))
    cos, sin = np.cos(turn) * scale, np.sin(turn) * scale
    painted = np.stack(
        [np.clip(lab[..., 0], 0, 1) ** curve, lab[..., 1] * cos - lab[..., 2] * sin,
         lab[..., 1] * sin + lab[..., 2] * cos], axis=-1,
    )  # fmt: skip
    return srgb((lab + share[..., None] * (painted - lab)).astype(np.float32))


def hidden_on(pixels: Pixels) -> frozenset[str]:
    """The backgrounds on which a thing of these pixels (N, 3) is hard to see: a third of it is nearly their color."""
    lab = oklab(pixels)
    return frozenset(
        name for name, ground in _GROUNDS.items() if (np.square(lab - ground).sum(1) < NEAR**2).mean() > 1 / 3
    )


def _apart(hues: Array, center: float) -> Array:
    """Degrees between hues, 0 to 180."""
    apart: Array = np.abs((hues - np.float32(center) + 180) % 360 - 180)
    return apart


_GROUNDS = {name: oklab(np.array(rgb, np.uint8)) for name, rgb in COLORS.items()}
