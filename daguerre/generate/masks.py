"""Masks: what of a picture may change, and how the new is joined to the old."""

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from ..request import Inpaint, RequestError
from .given import opaque, upright


def picture_and_mask(image: Image.Image, mask: Image.Image | None, request: Inpaint) -> tuple[Image.Image, Image.Image]:
    """The picture in mode RGB, and its mask in mode L: 255 where it is drawn anew, 0 where it stays.

    Without a mask, what is transparent in the picture is drawn anew. Gray is rounded, but in a differential mask.
    Raises RequestError for a mask of another size, for none, and for one that leaves nothing to draw.
    """
    picture = upright(image)
    size = f"{picture.width} x {picture.height}"
    if mask is None:
        if picture.mode != "RGBA":
            raise RequestError(f"there is no mask, and nothing in the picture is transparent; give a mask of {size}")
        values, colors = ImageOps.invert(picture.getchannel("A")), picture.convert("RGB")
    else:
        laid = upright(mask).convert("RGBA")
        values = Image.alpha_composite(Image.new("RGBA", laid.size, "black"), laid).convert("L")
        colors = opaque(picture)
    if values.size != picture.size:
        told = f"the mask has {values.width} x {values.height} pixels and the picture {size}"
        raise RequestError(f"{told}; they must have the same size")
    if request.invert:
        values = ImageOps.invert(values)
    if not request.differential:
        values = rounded(values)
    if not values.getbbox():
        raise RequestError(f"the mask of {size} pixels is empty: nothing in it is white, so nothing would be drawn")
    return colors, values


def without(image: Image.Image, mask: Image.Image) -> Image.Image:
    """The picture in mode RGBA, transparent where the mask is white."""
    erased = image.copy()
    erased.putalpha(ImageOps.invert(mask))
    return erased


def rounded(mask: Image.Image) -> Image.Image:
    """A mask of black and white alone."""
    return mask.point(lambda value: 255 if value >= 128 else 0)


def to_values(mask: Image.Image) -> Tensor:
    """(1, 1, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(mask))[None, None] / 255


def reach(blur: float) -> int:
    """How far a mask's soft edge goes beyond it, in pixels along either side; outside of that nothing changes."""
    return int(2.5 * blur + 0.5)


def softened(mask: Tensor, blur: float) -> Tensor:
    """The share of the new picture, (1, 1, H, W): 1 wherever the mask is not 0, falling to 0 within `reach(blur)`."""
    part, far = (mask > 0).float(), reach(blur)
    if not far:
        return part
    x = torch.arange(-far, far + 1, dtype=torch.float32)
    kernel = torch.exp(-((x / blur) ** 2) / 2)
    kernel = kernel / kernel.sum()
    soft = F.conv2d(F.pad(part, (far, far, 0, 0), "replicate"), kernel.view(1, 1, 1, -1))
    soft = F.conv2d(F.pad(soft, (0, 0, far, far), "replicate"), kernel.view(1, 1, -1, 1))
    return (2 * soft).clamp(max=1).maximum(part)  # a half at a straight edge, so that all of the fall is outside


def joined(old: Image.Image, new: Image.Image, share: Tensor) -> Image.Image:
    """Two pictures of mode RGB as one: old to the bit where the share (1, 1, H, W) of the new one is 0."""
    weight = share[0, 0, :, :, None].numpy()
    before, after = (np.asarray(image, np.float32) for image in (old, new))
    return Image.fromarray((before * (1 - weight) + after * weight).round().astype(np.uint8))


def continued(pixels: Tensor, known: Tensor) -> Tensor:
    """Pixels (1, 3, H, W) with smooth colors wherever they are not known (1, 1, H, W), from those around.

    Each such pixel is that of a picture of half the size, whose pixels are means of what is known.
    """
    known = known.float()
    if known.all() or max(pixels.shape[-2:]) == 1:
        return pixels
    share = F.avg_pool2d(known, 2, ceil_mode=True)
    mean = F.avg_pool2d(pixels * known, 2, ceil_mode=True) / share.clamp_min(1e-6)
    ground = F.interpolate(continued(mean, share > 0), pixels.shape[-2:], mode="bilinear")
    return torch.where(known > 0, pixels, ground)


def mirrored(pixels: Tensor, known: Tensor) -> Tensor:
    """Pixels (1, 3, H, W) with what is beyond the box of the known ones (1, 1, H, W) as their mirror image.

    What is not known inside of the box is `continued`.
    """
    rows, columns = (known[0, 0].any(dim=axis).nonzero().flatten().tolist() for axis in (1, 0))
    if not rows:
        return pixels
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    inner = continued(pixels[:, :, *box], known[:, :, *box])[0].numpy()
    height, width = pixels.shape[-2:]
    beyond = (0, 0), (rows[0], height - 1 - rows[-1]), (columns[0], width - 1 - columns[-1])
    return torch.from_numpy(np.pad(inner, beyond, "symmetric"))[None]
