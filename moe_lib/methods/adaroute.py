"""AdaRoute, also called ParaX: adapters whose weights are mixed for each picture, from a pool of many.

Shapes: B pictures, L = H × W tokens of C channels, r channels in the bottleneck, M experts of each of the
roles: the maps down and up, and a depthwise kernel of each size.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from segment_anything.modeling import image_encoder as sam_vit
from timm.models import vision_transformer as timm_vit
from timm.models.convnext import ConvNeXtBlock
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from moe_lib.methods.base import Adapted, Method, Names
from moe_lib.routing import Routed, dense, router_logits


@dataclass(frozen=True)
class AdaRoute(Method):
    """Adapters after each block, and one pool of experts for all of a stage :cite:`lou2026adaroute`.

    The targets are the sequences of blocks of ViT (timm's, SAM's), Swin and ConvNeXt. In Swin a block has two
    adapters, after attention and after MLP. The norms of a :class:`moe_lib.backbones.Staged` model are
    trained as well. Defaults are those of the published code.

    Args:
        rank: r.
        kernels: Sizes of the depthwise kernels, in their order; none leaves them out.
        hidden: Width of a router.
        experts: M; as many as the stage has blocks, if it is left out.
        conv: Convolutions; without them only the maps down and up are routed.
        temperature: Let each role learn how sharp its gates are.
        scaled: Learn a scale and an offset of each channel of the output.
        shortcut: Learn them of the shortcut, too.

    Introduced in :doc:`/book/other_methods`.
    """

    rank: int = 128
    kernels: Sequence[int] = (3, 5, 7)
    hidden: int = 16
    experts: int | None = None
    conv: bool = True
    temperature: bool = False
    scaled: bool = True
    shortcut: bool = True
    targets: Names = field(default=r"(.*\.)?blocks", kw_only=True)

    def __post_init__(self):
        object.__setattr__(self, "kernels", tuple(self.kernels))
        for name in ("rank", "hidden", "experts"):
            value = getattr(self, name)
            if (value is not None or name != "experts") and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} is a whole number from 1, got {value!r}")
        if wrong := [k for k in self.kernels if not isinstance(k, int) or k < 1 or k % 2 == 0]:
            raise ValueError(f"kernels have an odd number of rows, got {wrong[0]!r}")

    def wrap(self, module: nn.Module, name: str) -> "RoutedBlocks":
        if not isinstance(module, (nn.Sequential, nn.ModuleList)) or not len(module):
            kind = type(module).__name__
            raise TypeError(f"AdaRoute adapts a sequence of blocks, and {name!r} is a {kind}")
        return RoutedBlocks(module, self)

    def opened(self, model: nn.Module) -> list[str]:
        return [name for name, _ in model.named_parameters() if "stage_norms." in f".{name}"]

    def hooks(self, model: nn.Module) -> list[RemovableHandle]:
        """A ViT's blocks do not know how their tokens lie, nor which of them are no part of the picture."""
        found = []
        for vit in model.modules():
            blocks = getattr(vit, "blocks", None)
            if isinstance(blocks, RoutedBlocks) and hasattr(vit, "num_prefix_tokens"):
                blocks.besides = vit.num_prefix_tokens

                def tell(embed: nn.Module, inputs: tuple, _output: object, blocks=blocks) -> None:
                    blocks.grid = tuple(
                        n // p for n, p in zip(inputs[0].shape[-2:], embed.patch_size, strict=True)
                    )

                found.append(vit.patch_embed.register_forward_hook(tell))
        return found


class ExpertCenter(nn.Module):
    """The pool of a stage: M candidates for each role."""

    def __init__(self, channels: int, method: AdaRoute, experts: int):
        super().__init__()
        self.down = nn.Parameter(torch.empty(experts, method.rank, channels))
        self.up = nn.Parameter(torch.empty(experts, channels, method.rank))
        sizes = method.kernels if method.conv else ()
        self.kernels = nn.ParameterList(torch.empty(experts, method.rank, 1, k, k) for k in sizes)
        for values in self.parameters():
            nn.init.trunc_normal_(values, std=0.02)

    def roles(self) -> list[Tensor]:
        """The candidates in the order of the gates, each ``(M, …)``."""
        return [self.down, self.up, *self.kernels]


class Role(Routed):
    """The gates of one role: a softmax over its experts, ``(B, M)``."""

    def forward(self, logits: Tensor) -> Tensor:
        gates, self.routing = dense(logits)
        return gates


class RoutedAdapter(nn.Module):
    """A bottleneck whose weights are mixed for each picture: tokens ``(B, L, C)`` → the same.

    It owns its router and what does not depend on the picture; the experts are handed to it.
    """

    def __init__(self, channels: int, method: AdaRoute, experts: int):
        super().__init__()
        rank, kernels = method.rank, method.kernels if method.conv else ()
        self.rank, self.sizes, self.conv = rank, kernels, method.conv
        names = ["down", "up", *(f"kernel{k}" for k in kernels)]
        self.norm, self.gamma = nn.LayerNorm(channels), nn.Parameter(torch.full((channels,), 1e-5))
        self.router = nn.Sequential(
            nn.Linear(channels, method.hidden), nn.GELU(), nn.Linear(method.hidden, len(names) * experts)
        )
        self.roles = nn.ModuleDict({name: Role() for name in names})
        self.mix = nn.Linear(rank, rank)
        if method.conv:
            same = {"padding": 1, "groups": channels}
            self.before = nn.Conv2d(channels, channels, 3, **same)
            self.after = nn.Conv2d(channels, channels, 3, **same)
        if kernels:
            self.attention = nn.Linear(rank, len(kernels))  # over the sizes
            self.again = nn.Parameter(torch.ones(2 * (len(kernels) - 1)))
        scale = torch.zeros(len(names))
        if method.temperature:
            self.logit_scale = nn.Parameter(scale)
        else:
            self.register_buffer("logit_scale", scale)
        for name, wanted in (("out", method.scaled), ("short", method.shortcut)):
            for what, value in (("scale", 1.0), ("offset", 0.0)):
                values = nn.Parameter(torch.full((channels,), value)) if wanted else None
                self.register_parameter(f"{name}_{what}", values)
        for layer in self.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                bound = 1 / math.sqrt(layer.weight[0].numel())
                nn.init.uniform_(layer.weight, -bound, bound)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, center: ExpertCenter, grid: tuple[int, int] | None = None) -> Tensor:
        """``grid`` is H and W; it is not needed without convolutions."""
        if self.conv and (grid is None or math.prod(grid) != x.shape[1]):
            raise ValueError(f"{x.shape[1]} tokens do not lie on a grid of {grid}")
        # What is added to its own input, or scaled, is folded into weights: fewer passes over all tokens.
        scaled = (self.gamma * self.norm.weight, self.gamma * self.norm.bias)
        u = x + F.layer_norm(x, self.norm.normalized_shape, *scaled, self.norm.eps)
        if self.conv:
            u = self._near(self.before, u, grid)
        down, up, *kernels = self.mixed(u, center)
        d = down @ u.mT  # (B, r, L)
        m = d + (self._scales(d, kernels, grid) if kernels else d)  # without kernels, twice d: as published
        m = F.gelu(m + self.mix.weight @ m + self.mix.bias[:, None])
        y = m.mT @ up.mT
        offset = sum(o for o in (self.out_offset, self.short_offset) if o is not None)
        if self.conv:
            y = self._near(self.after, y, grid, self.out_scale, offset)
        else:
            y = offset + (y if self.out_scale is None else self.out_scale * y)
        return x + y if self.short_scale is None else torch.addcmul(y, self.short_scale, x)

    def mixed(self, u: Tensor, center: ExpertCenter) -> list[Tensor]:
        """The weights of each picture, one role after the other, each ``(B, …)``."""
        logits = router_logits(self.router, u.mean(1)).unflatten(-1, (len(self.roles), -1))
        logits = logits * self.logit_scale.exp()[:, None]
        found = []
        for i, (role, experts) in enumerate(zip(self.roles.values(), center.roles(), strict=True)):
            gates = role(logits[:, i]).to(experts.dtype)
            found.append((gates @ experts.flatten(1)).unflatten(-1, experts.shape[1:]).to(u.dtype))
        return found

    def _scales(self, d: Tensor, kernels: list[Tensor], grid: tuple[int, int]) -> Tensor:
        """Kernels one after the other, each also fed with what entered the first; weighted at each place."""
        first = last = d.unflatten(-1, grid)
        found = []
        for i, kernel in enumerate(kernels):
            if i:
                last = self.again[2 * i - 2] * first + self.again[2 * i - 1] * last
            last = _depthwise(last, kernel)
            found.append(last.flatten(2))
        if len(found) == 1:
            return found[0]
        shares = (self.attention.weight @ sum(found) + self.attention.bias[:, None]).softmax(1)  # (B, n, L)
        return sum(shares[:, i : i + 1] * z for i, z in enumerate(found))

    @staticmethod
    def _near(
        conv: nn.Conv2d, x: Tensor, grid: tuple[int, int], scale: Tensor | None = None,
        offset: Tensor | float = 0.0,
    ) -> Tensor:  # fmt: skip
        """``scale · (x + conv(x)) + offset``: a kernel that is 1 in its middle gives back what it is."""
        kernel, bias = conv.weight + F.pad(conv.weight.new_ones(1, 1, 1, 1), (1, 1, 1, 1)), conv.bias
        if scale is not None:
            kernel, bias = scale[:, None, None, None] * kernel, scale * bias
        near = F.conv2d(x.mT.unflatten(-1, grid), kernel, bias + offset, padding=1, groups=len(kernel))
        return near.flatten(2).mT


def _depthwise(x: Tensor, kernels: Tensor) -> Tensor:
    """A kernel for each picture and channel, in one call: ``(B, r, H, W)``, ``(B, r, 1, k, k)``."""
    b, r = x.shape[:2]
    flat = F.conv2d(x.reshape(1, b * r, *x.shape[2:]), kernels.flatten(0, 1), padding="same", groups=b * r)
    return flat.view(x.shape)


class RoutedBlocks(Adapted):
    """Blocks of one stage, with adapters after them that share one pool."""

    besides = 0  # tokens in front that are no part of the picture; they pass by
    grid: tuple[int, int] | None = None  # H and W, where the tokens do not tell

    def __init__(self, base: nn.Sequential | nn.ModuleList, method: AdaRoute):
        super().__init__(base)
        channels, experts = _channels(base[0]), method.experts or len(base)
        twice = 2 if isinstance(base[0], SwinTransformerBlock) else 1
        with torch.device(next(base.parameters()).device):
            self.center = ExpertCenter(channels, method, experts)
            self.adapters = nn.ModuleList(
                RoutedAdapter(channels, method, experts) for _ in range(twice * len(base))
            )

    def adapted(self, x: Tensor) -> Tensor:
        for block in self:
            x = block(x)
        return x

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, i: int) -> Callable[[Tensor], Tensor]:
        """A block with its adapters, for a model that goes through its blocks itself."""
        block = self.base[i]
        return partial(self._routed, i % len(self), block) if self.enabled else block

    def _routed(self, i: int, block: nn.Module, x: Tensor) -> Tensor:
        if isinstance(block, SwinTransformerBlock):
            return self._swin(block, x, *self.adapters[2 * i : 2 * i + 2])
        x, adapter = block(x), self.adapters[i]
        if isinstance(block, ConvNeXtBlock):
            return adapter(x.flatten(2).mT, self.center, tuple(x.shape[-2:])).mT.unflatten(-1, x.shape[-2:])
        if x.ndim == 4:  # (B, H, W, C)
            grid = tuple(x.shape[1:3])
            return adapter(x.flatten(1, 2), self.center, grid).unflatten(1, grid)
        own, tokens = x[:, : self.besides], x[:, self.besides :]
        return torch.cat([own, adapter(tokens, self.center, self.grid)], 1)

    def _swin(self, block: SwinTransformerBlock, x: Tensor, *adapters: RoutedAdapter) -> Tensor:
        """timm's block with an adapter after either half; ``(B, H, W, C)``."""
        grid = tuple(x.shape[1:3])
        x = (x + block.drop_path1(block._attn(block.norm1(x)))).flatten(1, 2)
        x = adapters[0](x, self.center, grid)
        x = x + block.drop_path2(block.mlp(block.norm2(x)))
        return adapters[1](x, self.center, grid).unflatten(1, grid)


def _channels(block: nn.Module) -> int:
    if isinstance(block, SwinTransformerBlock):
        return block.dim
    if isinstance(block, ConvNeXtBlock):
        return block.conv_dw.out_channels
    if isinstance(block, (timm_vit.Block, sam_vit.Block)):
        return block.norm1.normalized_shape[0]
    raise TypeError(f"AdaRoute knows blocks of ViT, Swin and ConvNeXt; got a {type(block).__name__}")
