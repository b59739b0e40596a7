"""Figures that answer when a reader points at them, without a model, a server or a library on the page.

Everything that can be asked for is worked out beforehand and packed into the figure.
"""

from moe_lib.explorer.answers import clicks, explore
from moe_lib.explorer.attention import attention

__all__ = ["attention", "clicks", "explore"]
