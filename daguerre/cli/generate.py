"""`daguerre generate`: a prompt to pictures."""

from ..request import TextToImage
from .drawing import RUN_ONCE, RunFlags
from .passes import ALONE, ONE_PASS, HiresFlags, RefinerFlags


def generate(
    prompt: str, /, *, hires: HiresFlags = ONE_PASS, refiner: RefinerFlags = ALONE, run: RunFlags = RUN_ONCE
) -> None:
    """Draw pictures from a prompt.

    Parameters
    ----------
    prompt
        What to draw. (word:1.2) weighs a word more, [word] less; earlier words count more. [from:to:0.5] changes
        halfway, [a|b] at each step; "a AND b" draws both; {a|b} and `__NAME__` choose; `<lora:NAME:0.8>` adds a LoRA.
    """
    from ..generate.text_to_image import text_to_image

    task = refiner.around(text_to_image, run.with_model)
    run.draw(TextToImage, run.fields(prompt=prompt, **hires.given()), task)
