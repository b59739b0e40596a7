"""The released adapter of AdaRoute / ParaX, in float64."""

import json
import re

import numpy as np
import pytest
import torch
from cases import cases, close, read
from torch import Tensor, nn

from moe_lib.methods.adaroute import AdaRoute, ExpertCenter, RoutedAdapter

NAMES = (
    (r"^norm_gamma$", "gamma"), (r"^dwconv1\.", "before."), (r"^dwconv2\.", "after."),
    (r"^attn\.0\.", "attention."), (r"^conv_res_scale$", "again"), (r"^proj\.", "mix."),
    (r"^layer_scale$", "out_scale"), (r"^layer_bias$", "out_offset"),
    (r"^res_scale$", "short_scale"), (r"^res_bias$", "short_offset"),
    (r"^projA_params$", "down"), (r"^projB_params$", "up"),
)  # fmt: skip
TOLERANCES = {torch.float64: (1e-12, 1e-12), torch.float32: (2e-5, 2e-6)}


def ours(name: str, kernels: list[int]) -> str:
    if found := re.fullmatch(r"conv(\d+)x\d+_params", name):
        return f"kernels.{kernels.index(int(found[1]))}"
    for pattern, here in NAMES:
        name = re.sub(pattern, here, name)
    return name


def load(module: nn.Module, arrays: dict[str, Tensor], prefix: str, kernels: list[int]) -> None:
    own = {name[len(prefix) :]: values for name, values in arrays.items() if name.startswith(prefix)}
    module.load_state_dict({ours(name, kernels): values for name, values in own.items()})


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("training", [False, True])
@cases("adaroute", has="w/center/projA_params")
def test_adapter(case, training, dtype):
    meta, arrays = read(case)
    kernels, tolerance = meta["kernel_sizes"], TOLERANCES[dtype]
    center, adapters, x = None, {}, arrays["x"].to(dtype).requires_grad_()
    for module in meta["modules"]:
        method = AdaRoute(
            rank=meta["rank"], kernels=kernels, hidden=meta["router_hidden"], conv=meta["enable_conv"],
            temperature=meta["use_temperature"], scaled=module.get("layer_scale", True),
            shortcut=module.get("res_scale", True),
        )  # fmt: skip
        if center is None:
            center = ExpertCenter(meta["dim"], method, meta["num_experts"])
            load(center, arrays, "w/center/", kernels)
            center.to(dtype).train(training)
        adapter = RoutedAdapter(meta["dim"], method, meta["num_experts"])
        load(adapter, arrays, f"w/{module['name']}/", kernels)
        adapters[module["name"]] = adapter.to(dtype).train(training)
    grid = (meta["H"], meta["W"]) if "H" in meta else None
    y = x
    for i, (name, adapter) in enumerate(adapters.items()):
        if i and meta["frozen_mix"]:
            y = y + (y @ arrays["frozen_mix"].to(dtype)).tanh()
        y = adapter(y, center, grid)
        close(name, y, arrays[f"inter/{name}/out"].to(dtype), *tolerance)
        roles = ["projA", "projB", *(f"conv{k}x{k}" for k in kernels if meta["enable_conv"])]
        for role, official in zip(adapter.roles.values(), roles, strict=True):
            close(official, role.routing.gates, arrays[f"gate/{name}/{official}"].to(dtype), *tolerance)
    close("out", y, arrays["out_train" if training else "out_eval"].to(dtype), *tolerance)
    loss = (y * arrays["cotangent"].to(dtype)).sum()
    loss.backward()
    with np.load(case) as file:
        never = json.loads(str(file["params_without_gradient"]))
    modules = {"center": center, **adapters}
    for name in [name for name in arrays if name.startswith("g/") and name != "g/x"]:
        _, module, official = name.split("/")
        gradient = modules[module].get_parameter(ours(official, kernels)).grad
        gradient = torch.zeros_like(arrays[name]) if gradient is None else gradient
        close(name, gradient, arrays[name].to(dtype), 10 * tolerance[0], tolerance[1])
    for name in never:
        module, official = re.fullmatch(r"(?:[wg]/)?(\w+)[/.](.+)", name).groups()
        assert modules[module].get_parameter(ours(official, kernels)).grad is None
    close("gradient of x", x.grad, arrays["g/x"].to(dtype), 10 * tolerance[0], tolerance[1])
