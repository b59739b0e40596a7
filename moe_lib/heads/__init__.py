"""Heads: from the features of a backbone to masks and classes."""

from moe_lib.heads.semantic import DECODER, Segments, SemanticSam
from moe_lib.heads.set_loss import matched, set_loss

__all__ = ["DECODER", "Segments", "SemanticSam", "matched", "set_loss"]
