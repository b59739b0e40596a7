"""Models by name, with their weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from moe_lib.backbones import checkpoints, registry
from moe_lib.backbones.mae import Mae
from moe_lib.backbones.sam import Sam
from moe_lib.backbones.words import TextEncoder

if TYPE_CHECKING:  # they bring timm, which takes seconds
    from moe_lib.backbones.hierarchical import Hiera
    from moe_lib.backbones.plain import PlainVit


def sam(name: str = "pocket", checkpoint: str | Path | None = None, *, weights: bool = True) -> Sam:
    """A frozen SAM: in eval mode, and no parameter asks for a gradient.

    Args:
        name: ``"pocket"``; ``"pocket_global"``, its twin with global attention only and no relative
            positions; or the real ones, ``"vit_b"``, ``"vit_l"`` and ``"vit_h"``.
        checkpoint: A file of weights. Those of the pocket models are shipped; the real ones need the official
            file, which is never downloaded.
        weights: ``False`` builds the model untrained, in training mode, with parameters that can be trained.

    Introduced in :doc:`/chapters/pocket_models`.
    """
    return _built(Sam, registry.card("sam", name), checkpoint, weights)


def mae(name: str = "pocket", checkpoint: str | Path | None = None, *, weights: bool = True) -> Mae:
    """A frozen masked autoencoder, of the same shape as the encoder of ``sam("pocket_global")``.

    Args:
        name: ``"pocket"``.
        checkpoint: A file of weights in place of the shipped one.
        weights: ``False`` builds the model untrained, in training mode, with parameters that can be trained.

    Introduced in :doc:`/chapters/pocket_models`.
    """
    return _built(Mae, registry.card("mae", name), checkpoint, weights)


def hiera(name: str = "pocket", checkpoint: str | Path | None = None, *, weights: bool = True) -> Hiera:
    """A frozen hierarchical encoder, SAM2's in small: windows, and a smaller map with every stage.

    Args:
        name: ``"pocket"``.
        checkpoint: A file of weights in place of the shipped one.
        weights: ``False`` builds the model untrained, in training mode, with parameters that can be trained.

    Introduced in :doc:`/book/other_methods`.
    """
    return _built(_hiera, registry.card("hiera", name), checkpoint, weights)


def vit(name: str = "pocket", checkpoint: str | Path | None = None, *, weights: bool = True) -> PlainVit:
    """A frozen plain ViT as DINOv2's, in small: a class token, registers, a scale for each residual.

    Args:
        name: ``"pocket"``.
        checkpoint: A file of weights in place of the shipped one.
        weights: ``False`` builds the model untrained, in training mode, with parameters that can be trained.

    Introduced in :doc:`/book/other_methods`.
    """
    return _built(_vit, registry.card("vit", name), checkpoint, weights)


def text(name: str = "pocket", checkpoint: str | Path | None = None, *, weights: bool = True) -> TextEncoder:
    """A frozen encoder of the pocket world's sentences; it never saw a picture.

    Args:
        name: ``"pocket"``.
        checkpoint: A file of weights in place of the shipped one.
        weights: ``False`` builds the model untrained, in training mode, with parameters that can be trained.

    Introduced in :doc:`/book/other_methods`.
    """
    return _built(_text, registry.card("text", name), checkpoint, weights)


def _hiera(sizes: registry.HieraSizes) -> Hiera:
    from timm.models.hieradet_sam2 import HieraDet

    from moe_lib.backbones.hierarchical import Hiera

    trunk = HieraDet(
        embed_dim=sizes.width, num_heads=1, stages=sizes.stages, window_spec=sizes.windows,
        global_att_blocks=sizes.global_blocks, global_pos_size=(6, 6), num_classes=0,
    )  # fmt: skip
    return Hiera(trunk, sizes.channels)


def _vit(sizes: registry.VitSizes) -> PlainVit:
    from timm.models.vision_transformer import VisionTransformer

    from moe_lib.backbones.plain import PlainVit

    model = VisionTransformer(
        img_size=sizes.image, patch_size=sizes.patch, embed_dim=sizes.width, depth=sizes.depth,
        num_heads=sizes.heads, reg_tokens=sizes.registers, no_embed_class=True, init_values=0.1,
        num_classes=0, global_pool="", norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )  # fmt: skip
    return PlainVit(model)


def _text(sizes: registry.TextSizes) -> TextEncoder:
    from moe_lib.worlds.language import VOCABULARY, tokenise

    return TextEncoder(
        tokenise, end=VOCABULARY.index("<end>"), vocabulary=len(VOCABULARY), length=sizes.length,
        width=sizes.width, depth=sizes.depth, heads=sizes.heads,
    )  # fmt: skip


def _built(
    kind: Callable[..., nn.Module], card: registry.Card, checkpoint: str | Path | None, weights: bool
) -> nn.Module:
    if not weights:
        if checkpoint is not None:
            raise ValueError(
                f"weights=False leaves no use for checkpoint={str(checkpoint)!r}; give one of the two"
            )
        return kind(card.sizes)
    path = _file_of(card) if checkpoint is None else checkpoint
    model = kind(card.sizes)
    checkpoints.load(model, path)
    return model.eval().requires_grad_(False)


def _file_of(card: registry.Card) -> Path:
    """Where a model's own weights are; an error that says how to get them, if they are not."""
    if not card.shipped:
        raise ValueError(
            f"{card.name} needs its official weights, and nothing is downloaded: get {card.file} from "
            f"{registry.PROJECT} on GitHub (section Model Checkpoints) and pass checkpoint='…/{card.file}'; "
            f"weights=False builds the model untrained"
        )
    if not card.here:
        raise FileNotFoundError(
            f"the weights {card.path} are missing; `{card.command}` makes them, and weights=False builds the "
            f"model untrained"
        )
    return card.path
