"""Frozen models to build on, pocket and real ones by name."""

from moe_lib.backbones.build import mae, sam
from moe_lib.backbones.encoder import ImageEncoder
from moe_lib.backbones.mae import Mae
from moe_lib.backbones.registry import Card, Catalogue, available
from moe_lib.backbones.sam import Masks, Sam, Sizes

__all__ = ["Card", "Catalogue", "ImageEncoder", "Mae", "Masks", "Sam", "Sizes", "available", "mae", "sam"]
