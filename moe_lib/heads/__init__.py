"""Heads: from the features of a backbone to masks and classes."""

from moe_lib.heads.mask2former import Mask2FormerHead
from moe_lib.heads.pyramid import Dense, PyramidHead, Segmenter
from moe_lib.heads.referring import (
    REFERRING,
    GuidedEncoder,
    Neck,
    PlaceDecoder,
    Projector,
    Referred,
    Referrer,
    coordinates,
    referring_loss,
)
from moe_lib.heads.semantic import DECODER, Segments, SemanticSam
from moe_lib.heads.sensors import SENSED, Sensed, SensorEncoder, SensorRouter, SensorSam, sensor_loss
from moe_lib.heads.set_loss import matched, set_loss

__all__ = [
    "DECODER",
    "REFERRING",
    "SENSED",
    "Dense",
    "GuidedEncoder",
    "Mask2FormerHead",
    "Neck",
    "PlaceDecoder",
    "Projector",
    "PyramidHead",
    "Referred",
    "Referrer",
    "Segmenter",
    "Segments",
    "SemanticSam",
    "Sensed",
    "SensorEncoder",
    "SensorRouter",
    "SensorSam",
    "coordinates",
    "matched",
    "referring_loss",
    "sensor_loss",
    "set_loss",
]
