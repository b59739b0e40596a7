"""How the negative controls of the lint are written down: damage to the sample chapter, and who notices.

    @control("no_stderr", "noise on stderr")
    def stderr_noise(nb, root): ...

means: after `stderr_noise`, the rule `no_stderr` and no other speaks, in these words. Unless the control is
about the stamp, the chapter is stamped again first, as somebody would who wants the damage to pass.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from freshness import stamp
from nbformat import NotebookNode
from sample import cell_with

Damage = Callable[[NotebookNode, Path], None]


class Control(NamedTuple):
    damage: Damage
    rule: str
    says: str
    stamped_again: bool


CONTROLS: list[Control] = []


def control(rule: str, says: str, *, stamped_again: bool = True) -> Callable[[Damage], Damage]:
    def register(damage: Damage) -> Damage:
        CONTROLS.append(Control(damage, rule, says, stamped_again))
        return damage

    return register


def restamp(nb: NotebookNode, root: Path) -> None:
    stamp(nb, scale="pocket", device="cpu", seconds=1.0, root=root)


def recount(nb: NotebookNode) -> None:
    """Number the cells as a run would, after one was put in or taken out."""
    for count, cell in enumerate((cell for cell in nb.cells if cell.cell_type == "code"), start=1):
        cell.execution_count = count


def shown(nb: NotebookNode) -> dict:
    """What the chapter's figure put into the outputs."""
    return cell_with(nb, "moe.show").outputs[0]["data"]
