"""``moe-adapt`` and ``moe-predict``: fine-tune a SAM on a folder of your own, and apply it."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields

HELP = {
    "method": "conv_lora, lora, adapter, bitfit, or decoder (no change of the encoder)",
    "model": "pocket, vit_b, vit_l or vit_h; the real ones need --checkpoint",
    "checkpoint": "file of weights",
    "classes": "1: one thing, where a mask is not 0; else the number of class ids, with the background",
    "steps": "of training, at most",
    "batch": "images of a step",
    "rate": "largest learning rate of the method",
    "decoder_rate": "largest learning rate of the mask decoder",
    "held_out": "share of the images to validate on",
    "patience": "validations, of 20, without a better score after which to stop; 0: never",
    "seed": "of all that is random",
}


def adapt_main(arguments: Sequence[str] | None = None) -> int:
    """Fine-tune a SAM on images and masks of the same names. A run that was stopped goes on by itself."""
    from moe_lib.adapting import Asked, adapt

    parser = _parser("moe-adapt", adapt_main)
    parser.add_argument("--images", required=True, metavar="DIR")
    parser.add_argument(
        "--masks", required=True, metavar="DIR", help="PNG, one channel, as large as the image"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="for the adapter and the report")
    for field in fields(Asked):
        if field.name in HELP:
            kind = str if field.default is None else type(field.default)
            name = f"--{field.name.replace('_', '-')}"
            parser.add_argument(
                name, type=kind, default=field.default, help=f"{HELP[field.name]} (%(default)s)"
            )
    given = vars(parser.parse_args(arguments))
    out = given["out"]

    def run() -> str:
        fitted = adapt(**given)
        if fitted.interrupted:
            return f"stopped; the same command goes on\n{out}"
        return f"{out}/report.md\n{out}/adapter"

    return _said(run)


def predict_main(arguments: Sequence[str] | None = None) -> int:
    """Write a mask for each image of a folder, by what moe-adapt has trained."""
    from moe_lib.adapting import predict

    parser = _parser("moe-predict", predict_main)
    parser.add_argument("run", metavar="RUN", help="the folder that moe-adapt wrote")
    parser.add_argument("--images", required=True, metavar="DIR")
    parser.add_argument("--out", required=True, metavar="DIR", help="for the masks")
    given = vars(parser.parse_args(arguments))
    return _said(lambda: f"{predict(**given)} masks in {given['out']}")


def _parser(name: str, main: Callable) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=name, description=main.__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (%(default)s)")
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    return parser


def _said(work: Callable[[], str]) -> int:
    """Do it and print what it says; what the user can mend is a line, and not a traceback."""
    try:
        print(work())
    except (ValueError, OSError) as error:  # a DataError is a ValueError
        print(f"✗ {error}", file=sys.stderr)
        return 1
    return 0
