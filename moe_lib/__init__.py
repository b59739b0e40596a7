"""The library of *Segmenting with Experts*: mixture-of-experts adapters for vision segmentation."""

import importlib

from moe_lib import datasets, pictures, worlds
from moe_lib.expect import Unexpected, expect
from moe_lib.kernels import centre_share, effective_kernel, rms_radius
from moe_lib.plots import show, style
from moe_lib.results import environment, load_results, save_results
from moe_lib.scale import at_scale, pick_device
from moe_lib.stats import mean_interval, verdict

__version__ = "0.1.0"

__all__ = [
    "Unexpected",
    "at_scale",
    "backbones",
    "centre_share",
    "datasets",
    "effective_kernel",
    "environment",
    "expect",
    "load_results",
    "mean_interval",
    "pick_device",
    "pictures",
    "rms_radius",
    "save_results",
    "show",
    "style",
    "verdict",
    "worlds",
]


def __getattr__(name: str):
    """``moe_lib.backbones`` is imported when it is asked for: it brings torchvision, which takes seconds."""
    if name == "backbones":
        return importlib.import_module("moe_lib.backbones")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
