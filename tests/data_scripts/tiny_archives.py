"""Pieces of tiny archives: photographs, masks with a rectangle, lists."""

import csv
import io
import zipfile

import numpy as np
from PIL import Image

SIZE = (12, 16)  # height, width


def encoded(array, form, mode=None):
    file = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(file, form)
    return file.getvalue()


def photo(seed, form="JPEG"):
    return encoded(np.full((*SIZE, 3), seed % 200 + 20, np.uint8), form)


def blob(seed, value=255, form="PNG", mode=None, size=SIZE):
    """A rectangle that begins at column ``seed % 5 + 1``."""
    mask = np.zeros(size, np.uint8)
    mask[3:9, seed % 5 + 1 : 10] = value
    return encoded(mask, form, mode)


def archive(path, files):
    with zipfile.ZipFile(path, "w") as target:
        for name, content in files.items():
            target.writestr(name, content)
    return path


def table(rows):
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([("", "image", "label"), *((i, *row) for i, row in enumerate(rows))])
    return text.getvalue()
