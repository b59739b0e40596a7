"""MLE-SAM around its encoder: features of several sensors, fused in two ways, for two heads.

Shapes: M sensors, S of them there, B pictures of H × W pixels, K classes; features (S, B, C, h, w) of three
levels, the finest first, with strides of 4, 8 and 16.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from segment_anything.modeling import TwoWayTransformer
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.mask_decoder import MLP
from torch import Tensor, nn

from moe_lib.backbones.sam import Prompts
from moe_lib.losses import ohem
from moe_lib.routing import Routed, dense, top_k

# What is trained of a SensorSam, for a method's `also`: all but the encoder, and what nothing is asked of.
SENSED = r"(decoder|reduce|routers|auxiliary)"


@dataclass(frozen=True)
class Sensed:
    """What a :class:`SensorSam` answers: ``logits`` (B, K, H, W), and what they are the sum of.

    Introduced in :doc:`/book/other_methods`.
    """

    logits: Tensor
    main: Tensor  # of the decoder, (B, K, H, W)
    auxiliary: Tensor  # of the light head, (B, K, H, W)
    weights: tuple[Tensor, ...]  # of the sensors, at each level, (B, M)

    def labels(self) -> Tensor:
        """The class of each pixel, ``(B, H, W)`` int64."""
        return self.logits.argmax(1)


class SensorEncoder(nn.Module):
    """One frozen encoder for all sensors: pictures ``(S, B, 3, H, W)``, numbers of S sensors → features.

    Args:
        encoder: Such as :class:`moe_lib.backbones.Hiera`.
        sensors: Names of all M.
        together: All sensors in one pass, which needs the most memory; else one after the other.

    Introduced in :doc:`/book/other_methods`.
    """

    def __init__(self, encoder: nn.Module, sensors: Sequence[str], together: bool = True):
        super().__init__()
        self.encoder, self.sensors, self.together = encoder, tuple(sensors), together

    def forward(self, pictures: Tensor, present: Sequence[int]) -> list[Tensor]:
        """``pictures`` are normalised; a list of levels, each ``(S, B, C, h, w)``."""
        if not self.together and len(present) > 1:
            each = [self(one[None], [number]) for one, number in zip(pictures, present, strict=True)]
            return [torch.cat(level) for level in zip(*each, strict=True)]
        return [x.unflatten(0, pictures.shape[:2]) for x in self.encoder.maps(pictures.flatten(0, 1))]


class SensorRouter(Routed):
    """Weights of the sensors from the mean of their features: one decision for each picture and level.

    Args:
        channels: C.
        sensors: M.
        by: "softmax" over those that are there, or each by its own "sigmoid".
        k: How many are kept, the largest; all, if it is left out.
        renormalise: Let the weights of those kept sum to 1.
        shared: One map for all sensors; then a weight follows from the features alone.

    Introduced in :doc:`/book/other_methods`.
    """

    def __init__(
        self, channels: int, sensors: int, *, by: str = "softmax", k: int | None = None,
        renormalise: bool = True, shared: bool = False,
    ):  # fmt: skip
        super().__init__()
        if by not in ("softmax", "sigmoid") or (by == "sigmoid" and k is not None):
            raise ValueError(f"by is 'softmax', or 'sigmoid' without k; got {by!r} and k={k!r}")
        if k is not None and not 1 <= k <= sensors:
            raise ValueError(f"k is a whole number from 1 to the {sensors} sensors, got {k!r}")
        self.by, self.k, self.renormalise = by, k, renormalise
        self.weight = nn.Parameter(torch.zeros(1 if shared else sensors, channels))
        self.bias = nn.Parameter(torch.zeros(1 if shared else sensors))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, features: Tensor, available: Tensor) -> Tensor:
        """Features of all M ``(M, B, C, h, w)``, and which of them count ``(B, M)`` → weights ``(B, M)``."""
        logits = self.scores(features).masked_fill(~available, -torch.inf)
        if self.k is None:
            weights, self.routing = dense(logits, by=self.by)
        else:
            softmax = "after" if self.renormalise else "before"
            weights, self.routing = top_k(logits, self.k, softmax=softmax)
        return weights.to(features.dtype)

    def scores(self, features: Tensor) -> Tensor:
        """Of all sensors, there or not: ``(B, M)``."""
        means = features.mean((-2, -1)).to(self.weight.dtype)
        return (means * self.weight[:, None]).sum(-1).mT + self.bias


def fused(features: Tensor, weights: Tensor) -> Tensor:
    """Σ weight · feature: ``(M, B, C, h, w)`` and ``(B, M)`` → ``(B, C, h, w)``."""
    return torch.einsum("mbchw,bm->bchw", features, weights)


class AllMLPHead(nn.Module):
    """Each level through a small MLP, all enlarged, joined from the coarsest on, and classified.

    Introduced in :doc:`/book/other_methods`.
    """

    def __init__(
        self, channels: Sequence[int], classes: int, width: int = 32, layers: int = 3, dropout: float = 0.1
    ):  # fmt: skip
        super().__init__()
        self.enter = nn.ModuleList(MLP(c, width, width, layers) for c in channels)
        self.drop = nn.Dropout(dropout)
        self.fuse = nn.Conv2d(width * len(channels), width, 1)
        self.leave = nn.Conv2d(width, classes, 1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        size = levels[0].shape[-2:]
        parts = [
            layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            for layer, x in zip(self.enter, levels, strict=True)
        ]
        parts = [F.interpolate(x, size, mode="bilinear", align_corners=False) for x in parts]
        return self.leave(F.relu(self.fuse(self.drop(torch.cat(parts[::-1], 1)))))


class ClassDecoder(nn.Module):
    """SAM2's mask decoder with a token for each class: levels → logits ``(B, K, 4h, 4w)``.

    One more token stands for SAM's single mask; it takes part, and its mask is dropped. The heads that would
    judge masks are left out.

    Introduced in :doc:`/book/other_methods`.
    """

    def __init__(self, classes: int, channels: int = 256, heads: int = 8, inside: int = 2048, depth: int = 2):
        super().__init__()
        self.transformer = TwoWayTransformer(
            depth=depth, embedding_dim=channels, num_heads=heads, mlp_dim=inside
        )
        self.iou_token = nn.Embedding(1, channels)
        self.mask_tokens = nn.Embedding(classes + 1, channels)
        self.up = nn.ModuleList(
            [
                nn.ConvTranspose2d(channels, channels // 4, 2, 2),
                nn.ConvTranspose2d(channels // 4, channels // 8, 2, 2),
            ]
        )
        self.norm = LayerNorm2d(channels // 4)
        self.mlps = nn.ModuleList(MLP(channels, channels, channels // 8, 3) for _ in range(classes + 1))

    def forward(self, levels: Sequence[Tensor], place: Tensor, prompt: Tensor) -> Tensor:
        fine, middle, coarse = levels
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight]).expand(len(coarse), -1, -1)
        tokens, pixels = self.transformer(
            coarse, place.expand(len(coarse), -1, -1, -1), torch.cat([own, prompt], 1)
        )
        x = F.gelu(self.norm(self.up[0](pixels.mT.reshape(coarse.shape)) + middle))
        x = F.gelu(self.up[1](x) + fine)
        return self.masks(tokens[:, 1 : 1 + len(self.mlps)], x)[:, 1:]

    def masks(self, tokens: Tensor, pixels: Tensor) -> Tensor:
        """Each token, by an MLP of its own, as a map of logits: ``(B, K + 1, C)`` → ``(B, K + 1, …)``."""
        said = torch.stack([mlp(tokens[:, i]) for i, mlp in enumerate(self.mlps)], 1)
        return torch.einsum("btc,bchw->bthw", said, pixels)

    @torch.no_grad()
    def alike(self) -> "ClassDecoder":
        """Let all tokens and their MLPs begin as the first, which a checkpoint of SAM2 has."""
        self.mask_tokens.weight.copy_(self.mask_tokens.weight[:1].expand_as(self.mask_tokens.weight))
        for mlp in self.mlps[1:]:
            mlp.load_state_dict(self.mlps[0].state_dict())
        return self


class SensorSam(nn.Module):
    """Pictures of several sensors → the class of each pixel: ``model(batch)`` → :class:`Sensed`.

    The mean of the sensors' features goes to the decoder, their weighted mean to a light head; both answers
    are added. Which features go where is ours: what is known of the paper does not say.

    ``batch["sensors"]`` names the pictures, ``(B, 3, H, W)`` in [0, 1]. A sensor that is not in it is missing
    everywhere; ``batch["available"]``, (B, M), says where one is missing that is in it.

    Args:
        encoder: Of one picture, such as :class:`moe_lib.backbones.Hiera`.
        sensors: Names of the M.
        classes: K.
        image: Pixels of a side.
        missing: "drop" leaves a sensor out of mean and router; "zero" keeps it, as the mean picture.
        router: Options of :class:`SensorRouter`.
        decoder: Options of :class:`ClassDecoder`: heads, inside, depth.
        together: All sensors in one pass of the encoder.

    Introduced in :doc:`/book/other_methods`.
    """

    def __init__(
        self, encoder: nn.Module, sensors: Sequence[str], classes: int, image: int = 1024, *,
        missing: str = "drop", router: Mapping[str, Any] | None = None,
        decoder: Mapping[str, Any] | None = None, together: bool = True,
    ):  # fmt: skip
        super().__init__()
        if missing not in ("drop", "zero"):
            raise ValueError(f"missing is 'drop' or 'zero', got {missing!r}")
        sensors, channels = tuple(sensors), encoder.channels
        if not sensors or len(set(sensors)) < len(sensors):
            raise ValueError(f"sensors are names, each once; got {sensors!r}")
        self.sensors_encoder = SensorEncoder(encoder, sensors, together)
        self.classes, self.missing = classes, missing
        widths = [channels // 8, channels // 4, channels]
        self.reduce = nn.ModuleList(nn.Conv2d(channels, width, 1) for width in widths[:2])
        self.routers = nn.ModuleList(
            SensorRouter(width, len(sensors), **dict(router or {})) for width in widths
        )
        self.prompts = Prompts(channels, (image // 16,) * 2, (image, image), 16).requires_grad_(False)
        # Frozen, so no saved adapter has them: without a checkpoint they are the same in every model.
        always = torch.Generator().manual_seed(0)
        for values in self.prompts.state_dict().values():
            values.copy_(torch.randn(values.shape, generator=always))
        self.decoder = ClassDecoder(classes, channels, **dict(decoder or {}))
        self.auxiliary = AllMLPHead(widths, classes)

    @property
    def sensors(self) -> list[str]:
        return list(self.sensors_encoder.sensors)

    def forward(self, batch: Mapping[str, Any]) -> Sensed:
        pictures, present, available = self._read(batch)
        features = self.features(pictures, present)
        main_levels, other_levels, weights = self.fuse(features, available)
        embedding = main_levels[2] + self.prompts.no_mask_embed.weight[..., None, None]
        # No prompt is a point that is none, and the padding of points.
        prompt = self.prompts.not_a_point_embed.weight.expand(len(embedding), 2, -1)
        main = self.decoder([*main_levels[:2], embedding], self.prompts.get_dense_pe(), prompt)
        parts = [
            F.interpolate(x, pictures.shape[-2:], mode="bilinear", align_corners=False)
            for x in (main, self.auxiliary(other_levels))
        ]
        return Sensed(parts[0] + parts[1], *parts, weights)

    def features(self, pictures: Tensor, present: Sequence[int]) -> list[Tensor]:
        """Three levels of all M sensors, ``(M, B, C, h, w)`` each; 0 where a sensor is not there."""
        encoder = self.sensors_encoder.encoder
        levels = self.sensors_encoder(encoder.normalised(pictures), tuple(present))
        for i, reduce in enumerate(self.reduce):
            levels[i] = reduce(levels[i].flatten(0, 1)).unflatten(0, levels[i].shape[:2])
        if len(present) == len(self.sensors):
            return levels
        place = torch.as_tensor(present, device=pictures.device)
        return [x.new_zeros(len(self.sensors), *x.shape[1:]).index_copy(0, place, x) for x in levels]

    def fuse(
        self, features: Sequence[Tensor], available: Tensor
    ) -> tuple[list[Tensor], list[Tensor], tuple[Tensor, ...]]:  # fmt: skip
        """The mean of the sensors at each level, their weighted mean, and the weights."""
        even = available.to(features[0].dtype)
        even = even / even.sum(-1, keepdim=True)
        weights = [router(x, available) for router, x in zip(self.routers, features, strict=True)]
        unified = [fused(x, even) for x in features]
        return unified, [fused(x, w) for x, w in zip(features, weights, strict=True)], tuple(weights)

    def _read(self, batch: Mapping[str, Any]) -> tuple[Tensor, list[int], Tensor]:
        """Pictures of the sensors that are there (S, B, 3, H, W), which they are, and where they count."""
        given = batch["sensors"] if "sensors" in batch else {"rgb": batch["image"]}
        present = [i for i, name in enumerate(self.sensors) if name in given]
        if not present:
            known, here = ", ".join(self.sensors), ", ".join(given) or "nothing"
            raise ValueError(f"all sensors are missing: the model knows {known}, and is given {here}")
        pictures = [given[self.sensors[i]] for i in present]
        if len(sizes := {tuple(picture.shape) for picture in pictures}) > 1:
            raise ValueError(f"pictures of all sensors are of one shape (B, 3, H, W); got {sorted(sizes)}")
        there = torch.zeros(len(pictures[0]), len(self.sensors), dtype=torch.bool, device=pictures[0].device)
        there[:, present] = True
        if "available" in batch:
            there &= batch["available"]
        if not there.any(-1).all():
            raise ValueError("a picture has no sensor at all")
        if self.missing == "zero":
            return *self._with_zeros(pictures, present, there), torch.ones_like(there)
        return torch.stack(pictures), present, there

    def _with_zeros(
        self, pictures: list[Tensor], present: list[int], there: Tensor
    ) -> tuple[Tensor, list[int]]:  # fmt: skip
        """All sensors, with the mean picture, which is 0 once normalised, where one is missing."""
        nothing = self.sensors_encoder.encoder.pixel_mean.expand_as(pictures[0])
        found = dict(zip(present, pictures, strict=True))
        every = [
            torch.where(there[:, i, None, None, None], found.get(i, nothing), nothing)
            for i in range(len(self.sensors))
        ]
        return torch.stack(every), list(range(len(every)))


def sensor_loss(
    answer: Sensed, mask: Tensor, *, auxiliary: float = 0.4, both: float = 1.0, by=ohem
) -> Tensor:  # fmt: skip
    """The decoder's loss, the light head's and that of their sum; the paper's is not known: ours.

    Introduced in :doc:`/book/other_methods`.
    """
    return by(answer.main, mask) + auxiliary * by(answer.auxiliary, mask) + both * by(answer.logits, mask)
