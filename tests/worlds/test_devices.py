"""A GPU paints the pictures that the CPU paints."""

import pytest
import torch

from moe_lib.worlds import TASKS, layers, task

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
COUNT = 48


@gpu
@pytest.mark.parametrize("name", TASKS)
def test_a_gpu_paints_the_same(name: str) -> None:
    scenes = task(name, "test", size=96)
    here, there = (scenes.batch(range(COUNT), device) for device in ("cpu", "cuda"))
    assert list(here) == list(there)
    for key in {"mask", "instances"} & set(here):
        same = (here[key] == there[key].cpu()).float().mean()
        assert same > 0.999, f"{key}: {same:.5f} of the pixels"
    for key, value in flat(here).items():
        if value.is_floating_point() and value.ndim == 4:  # pictures of 8 bits: rounding can fall either way
            apart = (value - flat(there)[key].cpu()).abs()
            assert apart.mean() < 1e-4 and (apart > 1.01 / 255).float().mean() < 1e-3, key


@gpu
@pytest.mark.parametrize("name", ["generic", "roads", "glass", "shadows"])
def test_light_is_the_same_before_the_camera_rounds_it(name: str) -> None:
    scenes = [task(name, "test", size=96).scene(index) for index in range(COUNT)]
    here, there = (layers.render(scenes, 96, torch.device(device)) for device in ("cpu", "cuda"))
    for key in ("radiance", "depth"):
        apart = (here[key] - there[key].cpu()).abs()
        assert (apart < 1e-4).float().mean() > 0.999, key


def flat(batch: dict) -> dict[str, torch.Tensor]:
    """The tensors of a batch, those of its sensors among them."""
    parts = {key: value for key, value in batch.items() if isinstance(value, torch.Tensor)}
    return parts | {f"sensors/{key}": value for key, value in batch.get("sensors", {}).items()}
