"""The pocket world: scenes for every task of the book, made by a recipe and never downloaded."""

from moe_lib.worlds.cache import Stored, clear_cache, materialise
from moe_lib.worlds.catalogue import DOMAINS, TASKS, task
from moe_lib.worlds.draws import SPLITS, WORLD, Draws
from moe_lib.worlds.generic import Generic, prompts
from moe_lib.worlds.layered import Layered
from moe_lib.worlds.layers import Scene, layer
from moe_lib.worlds.referring import Referring
from moe_lib.worlds.street import Street, keep_sensors
from moe_lib.worlds.tabletop import Instances, Panoptic, Semantic
from moe_lib.worlds.tasks import Task

__all__ = [
    "DOMAINS",
    "SPLITS",
    "TASKS",
    "WORLD",
    "Draws",
    "Generic",
    "Instances",
    "Layered",
    "Panoptic",
    "Referring",
    "Scene",
    "Semantic",
    "Stored",
    "Street",
    "Task",
    "clear_cache",
    "keep_sensors",
    "layer",
    "materialise",
    "prompts",
    "task",
]
