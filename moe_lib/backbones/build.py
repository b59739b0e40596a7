"""Models by name, with their weights."""

from pathlib import Path

from torch import nn

from moe_lib.backbones import checkpoints, registry
from moe_lib.backbones.mae import Mae
from moe_lib.backbones.sam import Sam


def sam(name: str = "pocket", checkpoint: str | Path | None = None, *, weights: bool = True) -> Sam:
    """A frozen SAM: in eval mode, and no parameter asks for a gradient.

    Args:
        name: ``"pocket"``; ``"pocket_global"``, its twin with global attention only and no relative
            positions; or the real ones, ``"vit_b"``, ``"vit_l"`` and ``"vit_h"``.
        checkpoint: A file of weights. Those of the pocket models are shipped; the real ones need the official
            file, which is never downloaded.
        weights: ``False`` builds the model untrained, in training mode, with parameters that can be trained.

    Introduced in :doc:`/chapters/pocket_models`.
    """
    return _built(Sam, registry.card("sam", name), checkpoint, weights)


def mae(name: str = "pocket", checkpoint: str | Path | None = None, *, weights: bool = True) -> Mae:
    """A frozen masked autoencoder, of the same shape as the encoder of ``sam("pocket_global")``.

    Args:
        name: ``"pocket"``.
        checkpoint: A file of weights in place of the shipped one.
        weights: ``False`` builds the model untrained, in training mode, with parameters that can be trained.

    Introduced in :doc:`/chapters/pocket_models`.
    """
    return _built(Mae, registry.card("mae", name), checkpoint, weights)


def _built(
    kind: type[nn.Module], card: registry.Card, checkpoint: str | Path | None, weights: bool
) -> nn.Module:
    if not weights:
        if checkpoint is not None:
            raise ValueError(
                f"weights=False leaves no use for checkpoint={str(checkpoint)!r}; give one of the two"
            )
        return kind(card.sizes)
    path = _file_of(card) if checkpoint is None else checkpoint
    model = kind(card.sizes)
    checkpoints.load(model, path)
    return model.eval().requires_grad_(False)


def _file_of(card: registry.Card) -> Path:
    """Where a model's own weights are; an error that says how to get them, if they are not."""
    if not card.shipped:
        raise ValueError(
            f"{card.name} needs its official weights, and nothing is downloaded: get {card.file} from "
            f"{registry.PROJECT} on GitHub (section Model Checkpoints) and pass checkpoint='…/{card.file}'; "
            f"weights=False builds the model untrained"
        )
    if not card.here:
        raise FileNotFoundError(
            f"the weights {card.path} are missing; `{card.command}` makes them, and weights=False builds the "
            f"model untrained"
        )
    return card.path
