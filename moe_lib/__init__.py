"""The library of *Segmenting with Experts*: mixture-of-experts adapters for vision segmentation."""

import importlib
import warnings

from moe_lib import datasets, explorer, pictures, worlds
from moe_lib.expect import Unexpected, expect
from moe_lib.kernels import centre_share, effective_kernel, rms_radius
from moe_lib.plots import show, style
from moe_lib.results import (
    environment,
    kept_results,
    load_results,
    quantity,
    save_results,
    seed_values,
    tried,
)
from moe_lib.scale import at_scale, pick_device
from moe_lib.stats import compare, mean_interval, probability_of_improvement, sign_flip_p, verdict

__version__ = "0.1.0"

# Imported when they are asked for: they bring torchvision and others, which takes seconds.
_LATER = {
    "moe_lib.injection": (
        "Counts", "disable", "inject", "load_adapter", "merge", "remove", "save_adapter",
        "trainable_parameters", "unmerge",
    ),
    "moe_lib.methods.base": ("Adapted", "Method"),
    "moe_lib.methods": (
        "SERA", "VPT", "AdaRoute", "Adapter", "BitFit", "ConvLoRA", "Full", "LPMoE", "LoRA", "MLESAM", "Open",
    ),
    "moe_lib.methods.conv_lora": ("ConvLoRALinear",),
    "moe_lib.routing": ("balance_loss", "watch_routing"),
    "moe_lib.train": ("Fitted", "Recipe", "evaluate", "fit"),
}  # fmt: skip
_MODULES = ("backbones", "heads", "losses", "methods", "metrics", "routing")

__all__ = [
    "MLESAM",
    "SERA",
    "VPT",
    "AdaRoute",
    "Adapted",
    "Adapter",
    "BitFit",
    "ConvLoRA",
    "ConvLoRALinear",
    "Counts",
    "Fitted",
    "Full",
    "LPMoE",
    "LoRA",
    "Method",
    "Open",
    "Recipe",
    "Unexpected",
    "at_scale",
    "backbones",
    "balance_loss",
    "centre_share",
    "compare",
    "datasets",
    "disable",
    "effective_kernel",
    "environment",
    "evaluate",
    "expect",
    "explorer",
    "fit",
    "heads",
    "inject",
    "kept_results",
    "load_adapter",
    "load_results",
    "losses",
    "mean_interval",
    "merge",
    "methods",
    "metrics",
    "pick_device",
    "pictures",
    "probability_of_improvement",
    "quantity",
    "remove",
    "rms_radius",
    "routing",
    "save_adapter",
    "save_results",
    "seed_values",
    "show",
    "sign_flip_p",
    "style",
    "trainable_parameters",
    "tried",
    "unmerge",
    "verdict",
    "watch_routing",
    "worlds",
]


def __getattr__(name: str):
    with warnings.catch_warnings():
        # What they import would rather have a nicer progress bar, and says so in every notebook.
        warnings.filterwarnings("ignore", "IProgress")
        if name in _MODULES:
            return importlib.import_module(f"moe_lib.{name}")
        for module, names in _LATER.items():
            if name in names:
                return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
