"""Choose the learning rates of chapters 02 and 03 on validation scenes, with the chapters' own code.

    python book/tools/rates.py        -> book/results/<chapter>/rates.json, a quarter of an hour on a CPU

Every method and every router gets the same: a run for each of its candidates, on scenes and with seeds that
no result uses. The decoder's rate is chosen first, with the decoder alone, and kept.
"""

from collections.abc import Callable, Iterable
from types import ModuleType

import torch
from freshness import ROOT
from lift import lift
from tqdm import tqdm

import moe_lib as moe

STEPS, BATCH, SEED, SCENES = 60, 4, 100, 96
TOY_SEEDS = range(100, 105)
RANK_RATES = [1e-3, 3e-3, 1e-2]  # does a higher rank want a lower rate?


def search(name: str, candidates: Iterable[float], run: Callable[[float], list[float]], best=max) -> tuple:
    """The best candidate, and what every one of them scored."""
    found = {rate: run(rate) for rate in tqdm(candidates, desc=name)}
    scores = {rate: sum(values) / len(values) for rate, values in found.items()}
    return best(scores, key=scores.get), {f"{name} {rate:g}": values for rate, values in found.items()}


def chosen(groups: dict, decoder: str, run: Callable, methods: dict) -> tuple[dict, dict]:
    """Rates of all methods of one domain, the decoder's first, and the scores of all candidates."""
    rates, scores = {}, {}
    for name in sorted(groups, key=lambda name: name != decoder):
        parts = {} if name == decoder else {"mask_decoder": rates[decoder]}
        rates[name], found = search(name, groups[name], lambda r, n=name, p=parts: run(methods[n], r, p))
        scores |= found
    return rates, scores


def small_changes() -> dict:
    """Chapter 02: six methods on two domains."""
    chapter = lift(
        ROOT / "chapters" / "02_small_changes.ipynb", "train", "task_loss", "iou", "candidates", "methods",
        compute=["methods"], steps=STEPS, batch_size=BATCH, where=torch.device("cpu"),
    )  # fmt: skip
    scores = {}
    for domain in ("polyps", "roads"):
        data = moe.worlds.materialise(domain, "train", 400)
        held_out = moe.worlds.materialise(domain, "val", SCENES)
        rates, found = chosen(chapter.candidates, "decoder", runner(chapter, data, held_out), chapter.methods)
        print(domain, rates)
        for rank in (16, 32) if domain == "polyps" else ():
            run, parts = runner(chapter, data, held_out), {"mask_decoder": rates["decoder"]}
            method = moe.LoRA(rank=rank, also="mask_decoder")
            _, more = search(f"rank {rank}", RANK_RATES, lambda r, m=method: run(m, r, parts))  # noqa: B023
            found |= more
        scores |= {f"{domain} {name}": values for name, values in found.items()}
    return scores


def runner(chapter: ModuleType, data, held_out) -> Callable:
    """A run of chapter 02's training for a method, a rate and rates of parts: validation IoU."""

    def run(method: moe.Method, rate: float, parts: dict) -> list[float]:
        sam = chapter.train(method, data, SEED, rate, parts)
        return [moe.evaluate(sam, held_out, chapter.iou)["IoU"]]

    return run


def experts_and_routers() -> dict:
    """Chapter 03: six ways to route the toy, four routers in the pocket SAM."""
    chapter = lift(
        ROOT / "chapters" / "03_experts_and_routers.ipynb", "train_toy", "train", "iou", "Experts", "Mixture",
        "routers", "candidates", "toy_candidates", "arms", compute=["arms", "SWITCH"],
        sam_steps=STEPS, batch_size=BATCH, toy_steps=400, where=torch.device("cpu"),
    )  # fmt: skip
    scores = {}
    for arm in chapter.arms:
        run = lambda rate, arm=arm: [chapter.train_toy(arm, 1, s, rate)["error"] for s in TOY_SEEDS]  # noqa: E731
        rate, found = search(arm, chapter.toy_candidates, run, min)
        print("toy", arm, rate)
        scores |= {f"toy {name}": values for name, values in found.items()}
    methods = {name: chapter.Experts(router=name, also="mask_decoder") for name in chapter.routers}
    methods["decoder"] = moe.Open("mask_decoder")
    run = runner(chapter, chapter.Mixture("train", 400), chapter.Mixture("val", SCENES))
    rates, found = chosen(chapter.candidates, "decoder", run, methods)
    print("pocket SAM", rates)
    return scores | {f"sam {name}": values for name, values in found.items()}


def main() -> None:
    torch.set_num_threads(2)
    for chapter, choose in (
        ("02_small_changes", small_changes),
        ("03_experts_and_routers", experts_and_routers),
    ):
        scores = choose()
        quantities = {
            name: moe.quantity(values)
            if len(values) > 2
            else dict.fromkeys(("estimate", "low", "high"), values[0])
            for name, values in scores.items()
        }
        moe.save_results(
            ROOT / "book" / "results", chapter=chapter, scale="rates", seeds=1, quantities=quantities
        )


if __name__ == "__main__":
    main()
