"""The command `daguerre`. Commands are named by their place and imported when they are used, so help is instant."""

import logging
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from cyclopts import App

from .. import __version__
from .exit import friendly
from .kinds import OWN


class Commands(App):
    """Commands that show a line each in the list of all, and alone the whole of their docstrings."""

    def __call__(self, tokens: str | Iterable[str] | None = None, **how: Any) -> Any:
        _, asked, _ = self.parse_commands(tokens)
        for command in asked[1:]:
            if command.default_command and not command.name[0].startswith("-"):
                command.help = None  # which was that line
        return super().__call__(tokens, **how)


app = Commands(
    name="daguerre",
    help="The whole of Stable Diffusion: type a prompt, get a picture.",
    version=__version__,
    group_parameters=OWN,
)
app.command("daguerre.cli.generate:generate", name="generate", help="Draw pictures from a prompt.")
app.command("daguerre.cli.heat_maps:heatmap", name="heatmap", help="Show which word of a prompt drew what.")
app.command("daguerre.cli.redraw:img2img", name="img2img", help="Draw over a picture.")
app.command("daguerre.cli.redraw:inpaint", name="inpaint", help="Draw a part of a picture anew.")
app.command("daguerre.cli.redraw:outpaint", name="outpaint", help="Draw on beyond the edges of a picture.")
app.command("daguerre.cli.redraw:edit", name="edit", help="Change a picture as you say.")
app.command("daguerre.cli.pictures:show", name="show", help="Print how a picture was made.")
app.command("daguerre.cli.pictures:reproduce", name="reproduce", help="Draw a picture again, pixel for pixel.")
app.command("daguerre.cli.upscale:upscale", name="upscale", help="Enlarge pictures.")
app.command("daguerre.cli.interrogate:interrogate", name="interrogate", help="Print a prompt for a picture.")
app.command("daguerre.cli.tiled_upscale:tiled_upscale", name="tiled-upscale", help="Enlarge, and draw detail into it.")
app.command("daguerre.cli.grid:grid", name="grid", help="Draw a grid over any settings, with labels.")
app.command("daguerre.cli.grid:matrix", name="matrix", help="Draw a prompt with and without each of its parts.")
app.command("daguerre.cli.prompts:prompts", name="prompts", help="Draw a picture for each line of a file.")
app.command("daguerre.cli.travel:travel", name="travel", help="Draw the way between seeds or prompts, moving.")
app.command("daguerre.cli.travel:film", name="film", help="Save how a picture came to be, as an animation.")
app.command("daguerre.cli.train:train", name="train", help="Train a model, an adapter or a new word.")

checkpoint = App(name="checkpoint", help="Look into model files, convert and merge them.")
checkpoint.command("daguerre.cli.checkpoint:inspect", name="inspect", help="Tell what a model file holds.")
checkpoint.command("daguerre.cli.checkpoint:convert", name="convert", help="Write a model in another layout.")
checkpoint.command("daguerre.cli.checkpoint:merge", name="merge", help="Make one model of several.")
checkpoint.command("daguerre.cli.checkpoint:prune", name="prune", help="Write only what is needed to draw.")
app.command(checkpoint)

lora = App(name="lora", help="Look into LoRA files, convert, make and merge them.")
lora.command("daguerre.cli.lora:inspect", name="inspect", help="Tell what a LoRA file holds.")
lora.command("daguerre.cli.lora:convert", name="convert", help="Write a LoRA in another tool's layout.")
lora.command("daguerre.cli.lora:resize", name="resize", help="Cut a LoRA to fewer ranks.")
lora.command("daguerre.cli.lora:extract", name="extract", help="Take a LoRA from the difference of two models.")
lora.command("daguerre.cli.lora:combine", name="combine", help="Make one LoRA of several.")
lora.command("daguerre.cli.lora:merge", name="merge", help="Build LoRAs into a model file.")
app.command(lora)

models = App(name="models", help="Fetch and list models.")
models.command("daguerre.cli.hub:pull", name="pull", help="Download a model from the Hugging Face Hub.")
models.command("daguerre.cli.models:show_all", name="list", help="List the models on this machine.")
app.command(models)

data = App(name="data", help="Check your pictures and build tables of pictures.")
data.command("daguerre.cli.data:check", name="check", help="Tell which pictures can be trained on, and why not.")
data.command("daguerre.cli.data:build", name="build", help="Make a table of pictures from a free source.")
app.command(data)

evaluate = App(name="evaluate", help="Judge models: figures with intervals, and pictures that nobody picked.")
evaluate.command("daguerre.cli.evaluate:tintype", name="tintype", help="Judge the built-in model, or one like it.")
app.command(evaluate)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command, by default that of this process.

    Exit codes: 0 done, 1 failed, 2 the request or a file is unusable, 130 interrupted, 141 nobody reads on.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        app(arguments)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `daguerre show picture.png | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the last flush has a place to go
        sys.exit(141)
    except Exception as error:
        failure = friendly(error, arguments)
        print(f"daguerre: {failure}", file=sys.stderr)
        sys.exit(failure.code)


if __name__ == "__main__":
    main()
