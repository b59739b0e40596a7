"""SAM on a user's own pictures: ``moe-adapt`` trains on images and masks, ``moe-predict`` applies it.

What is written to the folder of a run: ``run.json``, what was asked for; ``adapter/``, what was trained;
``report.md`` with its pictures; ``training/``, from which a run that was stopped goes on.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from moe_lib import backbones, heads, losses, metrics, pictures, plots, runs
from moe_lib.datasets.reading import IGNORE, DataError, list_files, read_image, read_mask
from moe_lib.injection import inject, load_adapter, save_adapter, trainable_parameters
from moe_lib.methods import Adapter, BitFit, ConvLoRA, LoRA, Open
from moe_lib.methods.base import Method
from moe_lib.results import environment
from moe_lib.routing import balance_loss, watch_routing
from moe_lib.scale import pick_device
from moe_lib.states import some, written_whole
from moe_lib.train import Fitted, Recipe, fit

METHODS: dict[str, Callable[[], Method]] = {
    "conv_lora": lambda: ConvLoRA(also=heads.DECODER),
    "lora": lambda: LoRA(3, alpha=32, also=heads.DECODER),
    "adapter": lambda: Adapter(also=heads.DECODER),
    "bitfit": lambda: BitFit(also=heads.DECODER),
    "decoder": lambda: Open(heads.DECODER),
}
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
LEAST = 4  # pairs: fewer cannot be split


@dataclass(frozen=True)
class Asked:
    """What a run was asked for; another run of the same folder has to ask for the same.

    Args:
        method: One of ``METHODS``.
        model: As :func:`moe_lib.backbones.sam` calls it.
        checkpoint: A file of weights, for the real models.
        classes: 1 finds one thing, where a mask is not 0; more are class ids, with the background.
        steps: Of training.
        batch: Images of a step.
        rate: Largest learning rate of the method.
        decoder_rate: Of the mask decoder.
        held_out: Share of the pairs to validate on.
        patience: Validations without a better score after which training stops; there are 20 in all.
        seed: Of the order of the images and everything random.
    """

    images: str
    masks: str
    method: str = "conv_lora"
    model: str = "pocket"
    checkpoint: str | None = None
    classes: int = 1
    steps: int = 500
    batch: int = 4
    rate: float = 1e-3
    decoder_rate: float = 1e-3
    held_out: float = 0.2
    patience: int = 6
    seed: int = 0

    def __post_init__(self):
        if self.method not in METHODS:
            raise ValueError(f"method is one of {', '.join(METHODS)}; got {self.method!r}")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is a share between 0 and 1, got {self.held_out!r}")

    def build(self) -> heads.SemanticSam:
        """The model, with the method in it."""
        sam = backbones.sam(self.model, self.checkpoint)
        torch.manual_seed(self.seed)
        return inject(heads.SemanticSam(sam, self.classes), METHODS[self.method]())


class Pairs:
    """Images and masks of the same names, squeezed to squares; the data of :func:`moe_lib.fit`.

    With one class a mask is 1 where a pixel of its file is not 0.
    """

    def __init__(
        self, images: dict[str, Path], masks: dict[str, Path], names: list[str], size: int, classes: int
    ):  # fmt: skip
        self.images, self.masks, self.names, self.size, self.classes = images, masks, names, size, classes

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, indices: Iterable[int], device: str | torch.device = "cpu") -> dict[str, Any]:
        read = [self._read(self.names[int(i)]) for i in indices]
        return {key: torch.stack([one[key] for one in read]).to(device) for key in ("image", "mask")}

    def _read(self, name: str) -> dict[str, Tensor]:
        image, mask = read_image(self.images[name]), read_mask(self.masks[name])
        if image.shape[:2] != mask.shape:
            raise DataError(
                f"{self.masks[name]} is {mask.shape[1]}×{mask.shape[0]}, and its picture {self.images[name]} "
                f"is {image.shape[1]}×{image.shape[0]}; should be equal"
            )
        if self.classes == 1:
            mask = mask != 0
        elif wrong := sorted({*np.unique(mask).tolist()} - {*range(self.classes), IGNORE}):
            known = f"0 to {self.classes - 1}, or {IGNORE} to ignore"
            raise DataError(f"{self.masks[name]} has class id {wrong[0]}; should be {known}")
        whole = torch.from_numpy(mask)[None, None].float()
        small = F.interpolate(whole, (self.size, self.size), mode="nearest-exact")[0, 0].long()
        return {"image": squeezed(image, self.size), "mask": small}


def squeezed(image: np.ndarray, size: int) -> Tensor:
    """A picture as a square: uint8 (H, W, 3) → float (3, size, size) in [0, 1]."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    return F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)[0].clamp(0, 1)


def pairs(asked: Asked, size: int) -> tuple[Pairs, Pairs]:
    """Pairs to learn from, and pairs held out: which a name is in does not depend on the others' order."""
    found = []
    for folder in (Path(asked.images), Path(asked.masks)):
        if not folder.expanduser().is_dir():
            raise DataError(f"there is no folder {folder}")
        found.append(list_files(folder.expanduser(), SUFFIXES))
    images, masks = found
    if alone := sorted(images.keys() ^ masks.keys()):
        where = asked.masks if alone[0] in images else asked.images
        raise DataError(f"{len(alone)} names have no partner: {some(alone)}; not in {where}")
    if len(images) < LEAST:
        raise DataError(f"{asked.images} has {len(images)} pictures; at least {LEAST} are needed")
    order = sorted(images, key=lambda name: hashlib.sha256(f"{asked.seed}/{name}".encode()).digest())
    kept = min(max(round(asked.held_out * len(order)), 1), len(order) - 1)
    return (
        Pairs(images, masks, sorted(order[kept:]), size, asked.classes),
        Pairs(images, masks, sorted(order[:kept]), size, asked.classes),
    )


def task_loss(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Structure loss of one mask or the set loss of several, and the balance of the experts."""
    answer = model(batch)
    if answer.classes is None:
        task = losses.structure(answer.logits[:, 0], batch["mask"]).mean()
    else:
        task = heads.set_loss(answer, batch["mask"])["loss"]
    balance = balance_loss(model)
    return {"loss": task + balance, "task": task, "balance": balance}


def scores(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
    """IoU and Dice of each image; of several classes, their means over those that occur in it."""
    found, mask = model(batch).labels(), batch["mask"]
    if model.classes == 1:
        iou = metrics.iou(found, mask)
        return {"IoU": iou, "Dice": 2 * iou / (1 + iou)}
    counted = [metrics.confusion(f[None], m[None], model.classes) for f, m in zip(found, mask, strict=True)]
    return {"mIoU of images": torch.tensor([metrics.mean_iou(one) for one in counted])}


def adapt(
    images: str | Path, masks: str | Path, out: str | Path, *, device: str = "auto", force: bool = False,
    **options: Any,
) -> Fitted:  # fmt: skip
    """Fine-tune a SAM on pictures and masks of the same names; writes the adapter and a report.

    Args:
        images, masks: Folders. A mask is a PNG of one channel, as large as its picture.
        out: Where to write to. A run that was stopped there goes on; a finished one is an error.
        force: Begin anew, over what is there.
        options: Fields of ``Asked``: method, model, checkpoint, classes, steps, batch, rate, …

    Introduced in :doc:`/chapters/04_conv_lora`.
    """
    out = Path(out).expanduser()
    asked = Asked(str(images), str(masks), **options)
    runs.check(out, asdict(asked), made=("adapter", "training", "report.md"), force=force)
    learnt, held_out = pairs(asked, backbones.registry.card("sam", asked.model).sizes.image)
    for data in (learnt, held_out):  # what is broken is said before anything is trained
        for i in tqdm(range(len(data)), desc="Reading", delay=2, leave=False):
            data.batch([i])
    model = asked.build()
    runs.note(out, asdict(asked))
    recipe = Recipe(
        steps=asked.steps, batch=asked.batch, rate=asked.rate, parts={"mask_decoder": asked.decoder_rate},
        seed=asked.seed, every=max(asked.steps // 20, 1), patience=asked.patience,
    )  # fmt: skip
    fitted = fit(
        model, learnt, task_loss, recipe, held_out=held_out, score=scores, folder=out / "training",
        device=device, label=asked.method,
    )  # fmt: skip
    if fitted.interrupted:
        return fitted  # the same command goes on
    save_adapter(model, out / "adapter")
    report(out, asked, model, fitted, held_out)
    return fitted


@torch.no_grad()
def report(out: Path, asked: Asked, model: heads.SemanticSam, fitted: Fitted, data: Pairs) -> None:
    """``report.md``: what was trained, how it went, pictures by rank, who routes what."""
    name = next(key for key in fitted.history[-1] if key in ("IoU", "mIoU of images"))
    device = model.pixel_mean.device
    every, found, ranks = data.batch(range(len(data)), "cpu"), [], []
    with watch_routing(model) as routing:
        for rows in tqdm(torch.arange(len(data)).split(8), desc="Report", delay=2, leave=False):
            batch = {key: values[rows].to(device) for key, values in every.items()}
            found.append(model(batch).labels().cpu())
            ranks.append(scores(model, batch)[name].cpu())
    found, ranks = torch.cat(found), torch.cat(ranks).double()
    order = ranks.argsort(descending=True).tolist()
    shown = list(dict.fromkeys(order[round(share * (len(order) - 1))] for share in (0, 0.25, 0.5, 0.75, 1)))
    figures = {"curves": _curves(fitted, name)}
    rows = {"image": every["image"], "truth": every["mask"], "found": found}
    rows = {key: values[shown] for key, values in rows.items()}
    for key in ("truth", "found"):
        rows[key] = pictures.coloured(rows[key], max(asked.classes, 2))
    figures["pictures"] = pictures.sheet(rows, titles=[f"{data.names[i]}\n{ranks[i]:.3f}" for i in shown])
    if routing:
        layers = {key.removeprefix("image_encoder."): calls for key, calls in routing.items()}
        figures["routing"] = plots.expert_usage(layers)
    for key, fig in figures.items():
        with written_whole(out / f"{key}.png") as unfinished:
            fig.savefig(unfinished, format="png", dpi=120, facecolor="white")
        plt.close(fig)
    best = fitted.best(name)
    numbers = {key: value for key, value in best.items() if key not in ("step", "loss", "task", "balance")}
    made = {
        "asked": asdict(asked),
        "seconds": round(fitted.seconds, 1),
        "environment": environment(device.type),
    }
    parts = [
        f"# {asked.method} on {Path(asked.images).name}",
        f"{asked.model}; {trainable_parameters(model)}",
        f"The best {name} on {len(data)} images that were held out was at step {best['step']}, of "
        f"{fitted.history[-1]['step']} that were trained:",
        "\n".join(f"- {key}: {value:.4f}" for key, value in numbers.items()),
        "![Loss and score against the step](curves.png)",
        f"Held-out images by rank of {name}, from the best to the worst, with its value:",
        "![Images, true masks, masks that were found](pictures.png)",
    ]
    if routing:
        parts += ["The experts on the held-out images:", "![Shares of the gates by layer](routing.png)"]
    parts += ["What made it:", f"```json\n{json.dumps(made, indent=2)}\n```"]
    with written_whole(out / "report.md") as unfinished:
        unfinished.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _curves(fitted: Fitted, name: str) -> plt.Figure:
    fig, axes = plt.subplots(1, 2, figsize=(7, 2.8), layout="constrained")
    for ax, key in zip(axes, ("loss", name), strict=True):
        ax.plot(*fitted.curve(key), "o-", ms=3)
        ax.set(xlabel="step", ylabel=key)
    return fig


@torch.no_grad()
def predict(
    run: str | Path, images: str | Path, out: str | Path, *, device: str = "auto", force: bool = False
) -> int:
    """Apply what :func:`adapt` trained to a folder of pictures; how many masks were written.

    A mask is a PNG as large as its picture: 0 and 255, or class ids.

    Introduced in :doc:`/chapters/04_conv_lora`.
    """
    run, images, out = (Path(path).expanduser() for path in (run, images, out))
    if not (run / "adapter").is_dir() or not (run / runs.ASKED).is_file():
        raise FileNotFoundError(f"{run} has no finished run of moe-adapt")
    if not images.is_dir():
        raise DataError(f"there is no folder {images}")
    files = list_files(images, SUFFIXES)
    if not files:
        raise DataError(f"{images} has no pictures ({', '.join(SUFFIXES)})")
    if not force and (there := [name for name in files if (out / f"{name}.png").exists()]):
        raise FileExistsError(f"{out} has {len(there)} of the masks already; another folder, or --force")
    asked = Asked(**json.loads((run / runs.ASKED).read_text(encoding="utf-8")))
    where = pick_device(device)
    model = load_adapter(asked.build(), run / "adapter").eval().to(where)
    for name, path in tqdm(files.items(), desc="Predicting", delay=2):
        image = read_image(path)
        answer = model(squeezed(image, model.sizes.image)[None].to(where))
        large = F.interpolate(answer.probabilities(), image.shape[:2], mode="bilinear", align_corners=False)[
            0
        ]
        mask = 255 * (large[0] > 0.5) if asked.classes == 1 else large.argmax(0)
        with written_whole(out / f"{name}.png") as unfinished:
            Image.fromarray(mask.cpu().numpy().astype(np.uint8)).save(unfinished, format="PNG")
    return len(files)
