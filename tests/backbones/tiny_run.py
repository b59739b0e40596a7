"""A run of pretraining in small, in a process of its own: ``tiny_run.py FOLDER STEPS BATCH [SECONDS]``.

With seconds, it sleeps that long after every step, to be killed meanwhile. Writes ``loss-RANK.json``.
"""

import json
import sys
import time
from pathlib import Path

import tiny
import torch

from moe_lib.backbones.pretrain.__main__ import _fabric
from moe_lib.backbones.pretrain.loop import Plan, Training


def main() -> None:
    torch.set_num_threads(1)
    folder, steps, batch = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    pause = float(sys.argv[4]) if len(sys.argv) > 4 else 0.0
    fabric = _fabric("cpu")
    folder.mkdir(parents=True, exist_ok=True)
    plan = Plan(model="sam", steps=steps, batch=batch, scenes=12, warmup=2)
    training = Training(fabric, plan, tiny.objective(), tiny.pool(12), tiny.pool(4, seed=1), folder)
    one_step, losses = training.one_step, []

    def slow_step() -> dict:
        values = one_step()
        losses.append(float(fabric.all_reduce(values["loss"])))
        time.sleep(pause)
        return values

    training.one_step = slow_step
    training.run(every=2)
    (folder / f"loss-{fabric.global_rank}.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    main()
