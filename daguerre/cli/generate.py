"""`daguerre generate`: a prompt to pictures."""

from ..request import TextToImage
from .drawing import ALONE, AS_USUAL, ONE_PASS, HiresFlags, OutputFlags, RefinerFlags, Run
from .flags import BUILT_IN_MODEL, PLAIN, STANDARD, AdapterFlags, DrawingFlags, ModelFlags
from .language import WORDS_ALONE, LanguageFlags
from .steering import UNSTEERED, SteeringFlags


def generate(
    prompt: str,
    /,
    *,
    drawing: DrawingFlags = STANDARD,
    hires: HiresFlags = ONE_PASS,
    refiner: RefinerFlags = ALONE,
    with_model: ModelFlags = BUILT_IN_MODEL,
    adapters: AdapterFlags = PLAIN,
    language: LanguageFlags = WORDS_ALONE,
    steering: SteeringFlags = UNSTEERED,
    output: OutputFlags = AS_USUAL,
) -> None:
    """Draw pictures from a prompt.

    Parameters
    ----------
    prompt
        What to draw. (word:1.2) weighs a word more, [word] less; earlier words count more. [from:to:0.5] changes
        halfway, [a|b] at each step; "a AND b" draws both; {a|b} and __NAME__ choose; <lora:NAME:0.8> adds a LoRA.
    """
    from ..generate.text_to_image import text_to_image

    run = Run(with_model=with_model, adapters=adapters, language=language, output=output, refiner=refiner)
    run.draw(TextToImage, {"prompt": prompt, **drawing.given(), **hires.given()}, steering.around(text_to_image))
