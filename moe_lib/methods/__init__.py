"""The methods: what can be put into a frozen model."""

from moe_lib.methods.conv_lora import ConvLoRA
from moe_lib.methods.lora import LoRA
from moe_lib.methods.simple import VPT, Adapter, BitFit, Full, Open

__all__ = ["VPT", "Adapter", "BitFit", "ConvLoRA", "Full", "LoRA", "Open"]
