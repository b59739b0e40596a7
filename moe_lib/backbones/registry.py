"""The models that have a name: how large they are, whose they are, and where their weights are.

A further family is further entries of ``CARDS``, with sizes of its own, and a function in ``build.py``.
"""

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

from torch import Tensor

from moe_lib.backbones.sam import Sizes

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
PROJECT = "facebookresearch/segment-anything"

POCKET = Sizes(
    image=96, patch=8, width=128, depth=8, heads=4, window=6, global_blocks=(1, 3, 5, 7),
    channels=128, decoder_heads=4, decoder_mlp=256, quality_width=128,
)  # fmt: skip
POCKET_GLOBAL = replace(POCKET, window=0, global_blocks=(), relative=False)
VIT_B = Sizes(image=1024, patch=16, width=768, depth=12, heads=12, window=14, global_blocks=(2, 5, 8, 11))
VIT_L = replace(VIT_B, width=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23))
VIT_H = replace(VIT_B, width=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31))


@dataclass(frozen=True)
class HieraSizes:
    """Of a hierarchical encoder.

    Introduced in :doc:`/book/other_methods`.
    """

    image: int = 96
    patch: int = 4
    width: int = 32  # of the first stage; each next one has twice as many
    stages: tuple[int, ...] = (1, 2, 5, 1)
    windows: tuple[int, ...] = (6, 6, 6, 3)
    global_blocks: tuple[int, ...] = (4, 7)
    channels: int = 64  # of the maps


@dataclass(frozen=True)
class VitSizes:
    """Of a plain ViT with a class token, registers, and a scale in front of each residual.

    Introduced in :doc:`/book/other_methods`.
    """

    image: int = 96
    patch: int = 8
    width: int = 96
    depth: int = 6
    heads: int = 4
    registers: int = 2


@dataclass(frozen=True)
class TextSizes:
    """Of a text encoder.

    Introduced in :doc:`/book/other_methods`.
    """

    length: int = 16  # tokens
    width: int = 64
    depth: int = 3
    heads: int = 4


@dataclass(frozen=True)
class Card:
    """What is known of a model before it is built; of its training, its file knows more.

    Introduced in :doc:`/chapters/pocket_models`.
    """

    family: str
    name: str
    sizes: Sizes | HieraSizes | VitSizes | TextSizes
    encoder_parameters: int
    parameters: int
    origin: str
    file: str  # of the weights, as it is called by those who made it
    command: str = ""  # that makes the file, where it is ours
    licence: str = "Apache-2.0"  # of the weights

    @property
    def tokens(self) -> int:
        """How many the encoder makes of a picture, or reads of a sentence."""
        if isinstance(self.sizes, TextSizes):
            return self.sizes.length
        return (self.sizes.image // self.sizes.patch) ** 2

    @property
    def shipped(self) -> bool:
        """Whether the weights are part of the library."""
        return bool(self.command)

    @property
    def path(self) -> Path:
        """The place of shipped weights."""
        return WEIGHTS / self.file

    @property
    def here(self) -> bool:
        """Whether the weights are shipped, and there."""
        return self.shipped and self.path.is_file()

    @property
    def sha256(self) -> str | None:
        """Of the shipped file, if it is there."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest() if self.here else None


OURS = "this project"
THEIRS = "segment-anything, on SA-1B"
PRETRAIN = "python -m moe_lib.backbones.pretrain"
CARDS = (
    Card("sam", "pocket", POCKET, 1_802_368, 2_430_400, OURS, "sam.safetensors", f"{PRETRAIN} sam"),
    Card(
        "sam", "pocket_global", POCKET_GLOBAL, 1_793_664, 2_421_696, OURS,
        "sam_global.safetensors", f"{PRETRAIN} sam_global",
    ),
    Card("sam", "vit_b", VIT_B, 89_670_912, 93_735_472, THEIRS, "sam_vit_b_01ec64.pth"),
    Card("sam", "vit_l", VIT_L, 308_278_272, 312_342_832, THEIRS, "sam_vit_l_0b3195.pth"),
    Card("sam", "vit_h", VIT_H, 637_026_048, 641_090_608, THEIRS, "sam_vit_h_4b8939.pth"),
    Card("mae", "pocket", POCKET_GLOBAL, 1_629_312, 1_898_368, OURS, "mae.safetensors", f"{PRETRAIN} mae"),
    Card(
        "hiera", "pocket", HieraSizes(), 1_846_304, 1_846_304, OURS,
        "hiera.safetensors", f"{PRETRAIN} hiera",
    ),
    Card("vit", "pocket", VitSizes(), 705_024, 705_024, OURS, "vit.safetensors", f"{PRETRAIN} vit"),
    Card("text", "pocket", TextSizes(), 159_233, 159_233, OURS, "text.safetensors", f"{PRETRAIN} text"),
)  # fmt: skip


class Catalogue(tuple[Card, ...]):
    """Cards, shown as a table.

    Introduced in :doc:`/chapters/pocket_models`.
    """

    TITLES = ("model", "image", "tokens", "encoder", "parameters", "licence", "pretrained by", "weights")

    def rows(self) -> list[tuple[str, ...]]:
        """The cells of the table, a row per model."""
        return [
            (
                f'{card.family}("{card.name}")',
                "text" if isinstance(card.sizes, TextSizes) else f"{card.sizes.image} px", f"{card.tokens:,}",
                _millions(card.encoder_parameters), _millions(card.parameters), card.licence, card.origin,
                ("here" if card.here else "missing") if card.shipped else card.file,
            )
            for card in self
        ]  # fmt: skip

    def __repr__(self) -> str:
        table = [self.TITLES, *self.rows()]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            [cell.rjust(width) if 1 <= i <= 4 else cell.ljust(width) for i, (cell, width) in enumerate(row)]
            for row in (zip(cells, widths, strict=True) for cells in table)
        ]
        return "\n".join("  ".join(line).rstrip() for line in lines)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(title)}</th>" for title in self.TITLES)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def available() -> Catalogue:
    """The models that can be built by name, as a table: sizes, licence, origin, and whether weights are here.

    Introduced in :doc:`/chapters/pocket_models`.
    """
    return Catalogue(CARDS)


def card(family: str, name: str) -> Card:
    """The card of a model; an unknown name is an error that lists the known ones."""
    known = {entry.name: entry for entry in CARDS if entry.family == family}
    if name in known:
        return known[name]
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"unknown model {name!r}; {family} has {', '.join(map(repr, known))}{guess}")


def recognise(state: Mapping[str, Tensor]) -> Card | None:
    """The known model whose sizes a state has, by its positions and the number of its blocks."""
    place = state.get("image_encoder.pos_embed")
    if place is None:
        return None
    depth = len({name.split(".")[2] for name in state if name.startswith("image_encoder.blocks.")})
    relative = "image_encoder.blocks.0.attn.rel_pos_h" in state
    family = "sam" if "mask_decoder.iou_token.weight" in state else "mae"
    for entry in (card for card in CARDS if isinstance(card.sizes, Sizes)):
        sizes, side = entry.sizes, entry.sizes.image // entry.sizes.patch
        alike = (entry.family, sizes.depth, sizes.relative) == (family, depth, relative)
        if alike and place.shape == (1, side, side, sizes.width):
            return entry
    return None


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} M"
