"""The table of everything solid in a street: its classes, kinds, styles and columns, and how it is filled."""

import numpy as np

CLASSES = (
    "road", "road_marking", "sidewalk", "terrain", "building", "fence", "pole", "sign", "vegetation",
    "car_parked", "car_moving", "pedestrian", "billboard", "sky",
)  # fmt: skip
CLASS = {name: number for number, name in enumerate(CLASSES)}

# Kinds of solids. A hull is a box whose sides lean inwards; a wheel is a cylinder that lies along its x axis.
BOX, HULL, POST, WHEEL, BALL = range(5)
# Styles: how a surface is painted and how it takes light and heat.
STYLES = (
    "plain", "facade", "roof", "fence", "sign", "car_advert", "person_advert", "bark", "leaves",
    "bodywork", "cabin", "tyre", "cloth", "head", "lamp",
)  # fmt: skip
STYLE = {name: number for number, name in enumerate(STYLES)}

# All columns are float32, so that a table is also a plain matrix that goes to the device as it is.
SOLID = np.dtype(
    [
        ("kind", "f4"), ("class", "f4"), ("style", "f4"), ("instance", "f4"),
        ("centre", "f4", 3), ("half", "f4", 3), ("turn", "f4", 2), ("lean", "f4", 2), ("velocity", "f4", 3),
        ("albedo", "f4", 3), ("salt", "f4"), ("warmth", "f4"),
    ]
)  # fmt: skip


class Solids:
    """Collects the rows of a scene's table and numbers its instances."""

    def __init__(self):
        self.rows: list[np.ndarray] = []
        self.labels: list[np.ndarray] = []
        self._things = 0

    def things(self, labels: np.ndarray) -> np.ndarray:
        """Numbers for new instances of these classes."""
        self.labels.append(labels)
        self._things += len(labels)
        return np.arange(self._things - len(labels), self._things) + 1

    def add(self, kind: int, style: str, label, x, y, z, half, **more) -> None:
        """Rows of one kind. ``label`` is a class's name or numbers; everything broadcasts over the rows."""
        rows = np.zeros(len(x), SOLID)
        rows["kind"], rows["style"] = kind, STYLE[style]
        rows["class"] = CLASS[label] if isinstance(label, str) else label
        centre, sizes = rows["centre"], rows["half"]
        centre[:, 0], centre[:, 1], centre[:, 2] = x, y, z
        sizes[:, 0], sizes[:, 1], sizes[:, 2] = half
        rows["turn"][:, 0] = 1
        for name, value in more.items():
            rows[name] = value
        self.rows.append(rows)

    def table(self) -> np.ndarray:
        return np.concatenate(self.rows)
