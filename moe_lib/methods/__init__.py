"""The methods: what can be put into a frozen model."""

import importlib

from moe_lib.methods.conv_lora import ConvLoRA
from moe_lib.methods.lora import LoRA
from moe_lib.methods.simple import VPT, Adapter, BitFit, Full, Open

__all__ = [
    "MLESAM",
    "SERA",
    "VPT",
    "AdaRoute",
    "Adapter",
    "BitFit",
    "ConvLoRA",
    "Full",
    "LPMoE",
    "LoRA",
    "Open",
]

# Imported when they are asked for: they bring timm, which takes seconds.
_LATER = {"AdaRoute": "adaroute", "LPMoE": "lpmoe", "MLESAM": "mle_sam", "SERA": "sera"}


def __getattr__(name: str):
    if name in _LATER:
        return getattr(importlib.import_module(f"moe_lib.methods.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
