"""Less memory while training: activations computed again in the backward pass instead of kept (arXiv:1604.06174)."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch.utils.checkpoint import checkpoint

from ..models.unet import Stage, UNet


@contextmanager
def checkpointed(unet: UNet) -> Iterator[None]:
    """For so long, a stage of `unet` keeps no more than its inputs for the backward pass, which runs it once more.

    A stage is a residual block and its attention. Gradients are equal to the last bit: whatever hooks its layers have,
    an adapter's for example, run both times and must give the same. Afterwards `unet` is as it was.
    """
    stages = [stage for stage in (*unet.encoder, *unet.decoder) if isinstance(stage, Stage) and "res" in stage]
    middle = [part for part in (unet.mid_in, unet.mid_attn, unet.mid_out) if part is not None]
    parts = [*stages, *middle]
    before = [vars(part).get("forward") for part in parts]
    for part in parts:
        vars(part)["forward"] = partial(checkpoint, part.forward, use_reentrant=False)
    try:
        yield
    finally:
        for part, forward in zip(parts, before, strict=True):
            vars(part)["forward"] = forward
            if forward is None:
                del vars(part)["forward"]
