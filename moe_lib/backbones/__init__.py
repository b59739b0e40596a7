"""Frozen models to build on, pocket and real ones by name."""

import importlib

from moe_lib.backbones.build import hiera, mae, sam, text, vit
from moe_lib.backbones.encoder import ImageEncoder
from moe_lib.backbones.mae import Mae
from moe_lib.backbones.registry import Card, Catalogue, HieraSizes, TextSizes, VitSizes, available
from moe_lib.backbones.sam import Masks, Sam, Sizes
from moe_lib.backbones.words import Said, TextEncoder

__all__ = [
    "Card",
    "Catalogue",
    "Hiera",
    "HieraSizes",
    "ImageEncoder",
    "Mae",
    "Masks",
    "PlainVit",
    "Said",
    "Sam",
    "Sizes",
    "Staged",
    "TextEncoder",
    "TextSizes",
    "VitSizes",
    "available",
    "hiera",
    "mae",
    "sam",
    "text",
    "vit",
]

# Imported when they are asked for: they bring timm, which takes seconds.
_LATER = {"Hiera": "hierarchical", "PlainVit": "plain", "Staged": "staged"}


def __getattr__(name: str):
    if name in _LATER:
        return getattr(importlib.import_module(f"moe_lib.backbones.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
