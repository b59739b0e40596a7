"""The pocket world: scenes for every task of the book, made by a recipe and never downloaded."""

from moe_lib.worlds.draws import SPLITS, WORLD, Draws
from moe_lib.worlds.tasks import Task

__all__ = ["SPLITS", "WORLD", "Draws", "Task"]
