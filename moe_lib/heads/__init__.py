"""Heads: from the features of a backbone to masks and classes."""

from moe_lib.heads.mask2former import Mask2FormerHead
from moe_lib.heads.pyramid import Dense, PyramidHead, Segmenter
from moe_lib.heads.semantic import DECODER, Segments, SemanticSam
from moe_lib.heads.sensors import SENSED, Sensed, SensorEncoder, SensorRouter, SensorSam, sensor_loss
from moe_lib.heads.set_loss import matched, set_loss

__all__ = [
    "DECODER",
    "SENSED",
    "Dense",
    "Mask2FormerHead",
    "PyramidHead",
    "Segmenter",
    "Segments",
    "SemanticSam",
    "Sensed",
    "SensorEncoder",
    "SensorRouter",
    "SensorSam",
    "matched",
    "sensor_loss",
    "set_loss",
]
