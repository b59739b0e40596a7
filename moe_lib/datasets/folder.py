"""A folder of images and masks as a dataset, in the batch form of the pocket world.

image    float32 (3, H, W) in [0, 1]          text       str
mask     int64 (H, W), 255 = ignore           instances  int64 (H, W), 0 = none, ids 1 … n
depth    float32 (H, W) in metres, 0 = none   boxes      float32 (n, 4), row i = instance i + 1
sensors  {"depth": float32 (3, H, W)}         (a batch has B in front; boxes and text are lists)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moe_lib.datasets import reading
from moe_lib.datasets.geometry import Augment, Placement, jittered, plain, randomly, renumbered, tight_boxes
from moe_lib.datasets.reading import IGNORE, DataError

Sample = dict[str, Any]


@dataclass(frozen=True)
class DepthFormat:
    """How the numbers of depth files are meant.

    Args:
        bits: 8 or 16, as stored; a file of another form is an error, not a guess.
        per_metre: Stored values per metre (25.5 if 255 means 10 m, 1000 if a value is a millimetre).
        far: Distance that becomes 1 in ``sensors["depth"]``, which has three equal channels in [0, 1].

    Introduced in :doc:`/chapters/pocket_world`.
    """

    bits: int
    per_metre: float
    far: float = 10.0

    def __post_init__(self) -> None:
        if self.bits not in (8, 16):
            raise ValueError(f"bits is {self.bits!r}; a depth PNG has 8 or 16")
        if self.bits == 8 and self.per_metre > 255:
            raise ValueError(
                f"per_metre is {self.per_metre!r}: with 8 bits everything would be nearer than one metre; "
                f"that is the scale of 16-bit files"
            )
        if not self.per_metre > 0 or not self.far > 0:
            raise ValueError(f"per_metre and far should be positive, are {self.per_metre!r} and {self.far!r}")


class Folder(torch.utils.data.Dataset):
    """One split of a data folder, read lazily; :func:`folder` describes the arguments.

    ``len(data)``, ``data[i]`` (one sample), ``data.batch([0, 1, 2])``, ``data.ids``, ``data.classes``; set
    ``data.epoch`` before each pass to draw new augmentations.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        size: int | None = None,
        fit: str = "pad",
        resample: str = "bilinear",
        augment: Augment | bool | None = None,
        ignore: Sequence[int] = (),
        class_map: str | Path | None = None,
        depth: DepthFormat | None = None,
        sensors: Sequence[str] = (),
        instances: bool = False,
        text: str | None = None,
        every_sentence: bool = False,
    ) -> None:
        if size is not None and (not isinstance(size, int) or size < 1):
            raise ValueError(
                f"size is {size!r}; should be a number of pixels, or None for the size of the files"
            )
        if fit not in ("pad", "stretch"):
            raise ValueError(f"fit is {fit!r}; should be 'pad' (keeps proportions) or 'stretch'")
        if resample not in ("bilinear", "bicubic"):
            raise ValueError(f"resample is {resample!r}; should be 'bilinear' or 'bicubic'")
        if set(sensors) - {"depth"} or (sensors and depth is None):
            raise ValueError(
                f"sensors is {tuple(sensors)!r}; only 'depth' is known, and needs depth=DepthFormat(…)"
            )
        if (instances or text == "refs") and (class_map or ignore):
            raise ValueError("the masks hold instance ids here: class_map and ignore have no meaning")
        self.root, self.split, self.depth = Path(root), split, depth
        self.size, self.fit, self.resample = size, fit, resample
        self.augment = Augment() if augment is True else augment or None
        self.sensors, self.epoch = tuple(sensors), 0
        self.instances = instances or text == "refs"
        names = reading.read_classes(self.root)
        self._files = reading.list_split(self.root, split, depth=depth is not None)
        self.classes, self._table = self._id_table(names, ignore, class_map)
        self._samples = self._list_samples(text, every_sentence)
        self.ids = [sample[0] for sample in self._samples]

    def _id_table(
        self, names: tuple[str, ...], ignore: Sequence[int], class_map: str | Path | None
    ) -> tuple[tuple[str, ...], np.ndarray]:
        """Class names, and what each id of a file becomes: a class, 255, or -1 for what must not occur."""
        table = np.full(IGNORE + 1, -1)
        table[: len(names)] = np.arange(len(names))
        table[IGNORE] = IGNORE
        if class_map is not None:
            names, mapping = reading.read_class_map(self.root / class_map, names)
            for old, new in mapping.items():
                table[old] = new
        for i in ignore:
            if i not in range(len(names)):
                raise ValueError(f"ignore has {i!r}; {self.root} has the classes 0 … {len(names) - 1}")
        table[np.isin(table, list(ignore))] = IGNORE
        # An ignored class in the middle keeps its place, so that the ids after it keep theirs.
        while len(names) - 1 in ignore:
            names = names[:-1]
        if not names:
            raise ValueError(f"ignore={tuple(ignore)!r} leaves no class")
        if self.instances:
            names = ("background", "target")
        return names, table

    def _list_samples(self, text: str | None, every_sentence: bool) -> list[tuple[str, str, int, list[str]]]:
        """(sample id, image id, instance or 0, sentences) for each sample."""
        images = list(self._files["images"])
        if text is None:
            samples = [(name, name, 0, []) for name in images]
        elif text == "refs":
            refs = reading.read_refs(self.root / f"refs_{self.split}.json", set(images))
            samples = [(f"{image}/{instance}", image, instance, lines) for image, instance, lines in refs]
        else:
            prompts = reading.read_prompts(self.root / f"prompts_{self.split}.json", text, set(images))
            samples = [(name, name, 0, prompts[name]) for name in images]
        if text is None or not every_sentence:
            return samples
        return [
            (f"{name}/{number}", image, instance, [line])
            for name, image, instance, lines in samples
            for number, line in enumerate(lines)
        ]

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Folder({str(self.root)!r}, {self.split!r}): {len(self)} samples, {len(self.classes)} classes"

    def __getitem__(self, index: int) -> Sample:
        """One sample, without a batch dimension."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        index %= len(self)
        _, name, instance, lines = self._samples[index]
        image, mask, depth = self._read(name)
        random = self.augment.random(self.epoch, index) if self.augment else None
        placement = plain(*mask.shape, self.size, self.fit, self.resample)
        text = None
        if lines:  # the expression must stay true: see Augment
            text = lines[0] if random is None else lines[int(random.integers(len(lines)))]
        elif random is not None:
            placement = randomly(placement, self.augment, random)
        pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        if random is not None:
            pixels = jittered(pixels, self.augment.jitter, random, colours=not lines)
        # Antialiasing may leave [0, 1] by the last bit.
        sample: Sample = {"image": placement.smooth(pixels).clamp_(0, 1)}
        sample |= self._labels(name, mask, instance, placement)
        if depth is not None:
            sample["depth"] = placement.nearest(torch.from_numpy(depth), 0)
        if "depth" in self.sensors:
            near = (sample["depth"] / self.depth.far).clamp(0, 1)
            sample["sensors"] = {"depth": near.expand(3, -1, -1).clone()}
        if text is not None:
            sample["text"] = text
        return sample

    def _read(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        image = reading.read_image(self._files["images"][name])
        mask = reading.read_mask(self._files["masks"][name])
        depth = None
        if self.depth is not None:
            depth = reading.read_depth(self._files["depths"][name], self.depth.bits, self.depth.per_metre)
        for kind, other in (("masks", mask), ("depths", depth)):
            if other is not None and other.shape != image.shape[:2]:
                raise DataError(
                    f"{self._files[kind][name]} is {other.shape[1]}×{other.shape[0]}, and its picture "
                    f"{self._files['images'][name]} is {image.shape[1]}×{image.shape[0]}; should be equal"
                )
        return image, mask, depth

    def _labels(self, name: str, mask: np.ndarray, instance: int, placement: Placement) -> Sample:
        path = self._files["masks"][name]
        if not self.instances:
            if mask.max() > IGNORE or (self._table[mask] < 0).any():
                wrong = sorted(set(mask[mask > IGNORE]) | set(mask[self._table[mask.clip(0, IGNORE)] < 0]))
                allowed = f"0 … {(self._table[:IGNORE] >= 0).sum() - 1} of classes.txt, or {IGNORE} to ignore"
                raise DataError(f"{path} has class id {', '.join(map(str, wrong[:5]))}; should be {allowed}")
            return {"mask": placement.nearest(torch.from_numpy(self._table[mask]), IGNORE)}
        if instance and not (mask == instance).any():
            raise DataError(f"{path} has no pixel of instance {instance}, which refs_{self.split}.json names")
        seen = placement.nearest(torch.from_numpy(mask), 0)
        inside = placement.nearest(torch.ones(mask.shape, dtype=torch.bool), False)
        target = (seen == instance) if instance else (seen > 0)
        instances, old = renumbered(seen)
        labels = {"mask": torch.where(inside, target.long(), IGNORE), "instances": instances}
        return labels | {"boxes": tight_boxes(instances, len(old))}

    def batch(self, indices: Iterable[int], device: str | torch.device = "cpu") -> Sample:
        """The samples of these indices, stacked; without ``size`` their files must have one size."""
        return collate([self[int(i)] for i in indices], device)


def collate(samples: Sequence[Sample], device: str | torch.device = "cpu") -> Sample:
    """Stack samples of a :class:`Folder` into a batch; also the ``collate_fn`` of a DataLoader.

    Introduced in :doc:`/chapters/pocket_world`.
    """
    if not samples:
        raise ValueError("a batch needs at least one sample")
    sizes = sorted({tuple(sample["mask"].shape) for sample in samples})
    if len(sizes) > 1:
        raise DataError(
            f"these samples have the sizes {sizes} (height, width); give size= to bring them to one"
        )

    def stacked(values: list[Any]) -> Any:
        if isinstance(values[0], dict):
            return {name: stacked([value[name] for value in values]) for name in values[0]}
        return torch.stack(values).to(device) if isinstance(values[0], Tensor) else values

    batch = {key: stacked([sample[key] for sample in samples]) for key in samples[0] if key != "boxes"}
    if "boxes" in samples[0]:
        batch["boxes"] = [sample["boxes"].to(device) for sample in samples]
    return batch


def folder(root: str | Path, split: str, **options: Any) -> Folder:
    """Open one split of a data folder (``moe_lib.datasets.reading`` shows the layout).

    Args:
        root: The folder with ``classes.txt``.
        split: ``"train"``, ``"val"``, ``"test"`` or any other that is there.
        size: Side of the square that samples are brought to; None keeps the size of the files.
        fit: ``"pad"`` fits the longer side and pads below and right (mask 255, all else 0); ``"stretch"``
            gives up the proportions.
        resample: How pictures are resized, ``"bilinear"`` or ``"bicubic"``; masks take the nearest pixel.
        augment: An :class:`Augment`, or True for the usual one.
        ignore: Class ids that become 255. If they are the last ones, their names leave ``classes``.
        class_map: Name of a file in the folder that merges classes; its ids are those ``ignore`` then means.
        depth: A :class:`DepthFormat`, to read ``<split>/depths``.
        sensors: ``("depth",)`` for the depth as a three-channel image too.
        instances: The masks hold instance ids: ``mask`` is then 0 or 1, with ``instances`` and ``boxes``.
        text: ``"refs"``: one sample for each entry of ``refs_<split>.json``, whose ``mask`` shows the target.
            Else the key of ``prompts_<split>.json``, such as ``"p6"``. Of several sentences the first is
            given, and with ``augment`` any of them.
        every_sentence: One sample for each sentence instead.

    Introduced in :doc:`/chapters/pocket_world`.
    """
    return Folder(root, split, **options)
