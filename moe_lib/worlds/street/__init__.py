"""The street: a 3-D world of five sensors, five weathers and five corner cases.

Reading order: ``solids`` and ``scene`` (what stands there), ``stage`` and ``cast`` (what each pixel sees),
``surface`` and ``appearance`` (what it is made of), ``light``, ``heat``, ``sensors``, ``task``.
"""

from moe_lib.worlds.street.batches import keep_sensors
from moe_lib.worlds.street.conditions import CASES, WEATHERS, Conditions
from moe_lib.worlds.street.scene import Scene
from moe_lib.worlds.street.sensors import SENSORS
from moe_lib.worlds.street.solids import CLASSES
from moe_lib.worlds.street.task import Street

__all__ = ["CASES", "CLASSES", "SENSORS", "WEATHERS", "Conditions", "Scene", "Street", "keep_sensors"]
