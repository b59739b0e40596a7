"""MLE-SAM: its counts, sensors that are there and that are not, and what it refuses."""

import pytest
import small
import timm
import torch
from timm.models.hieradet_sam2 import HieraDet
from torch import nn

import moe_lib as moe
from moe_lib import heads
from moe_lib.backbones import Hiera
from moe_lib.heads.sensors import AllMLPHead, ClassDecoder

SENSORS = ("rgb", "depth", "lidar")
SMALL_DECODER = dict(heads=2, inside=16, depth=1)


def sensor_sam(sensors=SENSORS, method: bool = True, **options) -> heads.SensorSam:
    torch.manual_seed(0)
    trunk = HieraDet(
        embed_dim=8, num_heads=1, stages=(1, 1, 2, 1), window_spec=(4, 2, 4, 2), global_att_blocks=(3,),
        global_pos_size=(4, 4), num_classes=0,
    )  # fmt: skip
    model = heads.SensorSam(Hiera(trunk, 16), sensors, 4, 64, decoder=SMALL_DECODER, **options)
    if method:
        moe.inject(model, moe.MLESAM(sensors, rank=2, also=heads.SENSED))
    return model.eval()


def batch(sensors=SENSORS, n: int = 2) -> dict:
    torch.manual_seed(2)
    return {"sensors": {name: torch.rand(n, 3, 64, 64) for name in sensors}}


@pytest.mark.parametrize("classes, tokens", [(25, 3_635_008), (19, 2_796_160), (20, 2_935_968)])
def test_the_published_size_to_the_unit(classes, tokens):
    sensors = ("rgb", "depth", "event", "lidar")
    with torch.device("meta"):
        model = heads.SensorSam(
            Hiera(timm.create_model("sam2_hiera_base_plus", num_classes=0)), sensors, classes
        )
        moe.inject(model, moe.MLESAM(sensors, also=heads.SENSED))

    def count(part):
        return sum(values.numel() for values in part.parameters())

    assert count(model.decoder.transformer) == 3_291_264 and count(model.decoder.mlps) == tokens
    assert count(model.routers) == 1420 and count(model.reduce) == 24_672
    assert count(model.sensors_encoder.encoder.neck) == 431_104
    trained = moe.trainable_parameters(model).trainable
    lora = sum(v.numel() for n, v in model.named_parameters() if n.rpartition(".")[2][:2] in ("A_", "B_"))
    assert lora == 5_304_320
    if classes == 25:
        assert count(model.auxiliary) == 21_625 and trained == 12_359_173
    assert trained == lora + count(model.decoder) + 1420 + 24_672 + count(model.auxiliary)


@pytest.mark.parametrize(
    "rank, narrow, per_sensor", [(4, False, 165_760), (64, False, 2_652_160), (1, True, 39_872)]
)
def test_a_lora_costs_what_it_should(rank, narrow, per_sensor):
    with torch.device("meta"):
        encoder = Hiera(timm.create_model("sam2_hiera_base_plus", num_classes=0))
        model = nn.Sequential(heads.SensorEncoder(encoder, ("rgb",)))
        moe.inject(model, moe.MLESAM(("rgb",), rank=rank, narrow=narrow))
    assert moe.trainable_parameters(model).trainable == per_sensor


def test_every_sensor_begins_with_the_frozen_encoder():
    given = batch()
    with torch.no_grad():
        before = sensor_sam(method=False)(given)
        after = sensor_sam()(given)
    torch.testing.assert_close(before.logits, after.logits)


def test_each_sensor_has_a_lora_of_its_own():
    """The same picture through all of them: alike before training, and after it no longer."""
    picture = torch.rand(2, 3, 64, 64).expand(3, -1, -1, -1, -1)
    model = sensor_sam()
    with torch.no_grad():
        levels = model.features(picture, [0, 1, 2])
        torch.testing.assert_close(levels[2][0], levels[2][2])
        levels = small.disturb(model).features(picture, [0, 1, 2])
    assert (levels[2][0] - levels[2][2]).abs().max() > 0.01


@pytest.mark.parametrize("missing", ["drop", "zero"])
@pytest.mark.parametrize("present", [SENSORS, ("lidar", "rgb"), ("depth",)])
def test_sensors_at_once_and_one_after_the_other(present, missing):
    given = batch(present)
    with torch.no_grad():
        found = [small.disturb(sensor_sam(together=t, missing=missing))(given) for t in (True, False)]
    torch.testing.assert_close(found[0].logits, found[1].logits, rtol=1e-4, atol=1e-4)


def test_a_sensor_that_is_missing_is_not_in_the_answer():
    model, given = small.disturb(sensor_sam()), batch()
    fewer = {"sensors": {name: given["sensors"][name] for name in ("rgb", "lidar")}}
    with moe.watch_routing(model) as records, torch.no_grad():
        found = model(fewer)
    for weights in found.weights:
        assert not weights[:, 1].any()
        torch.testing.assert_close(weights.sum(-1), torch.ones(2))
    # The same as where the batch says so, whatever the picture shows.
    told = {**given, "available": torch.tensor([[True, False, True]] * 2)}
    with torch.no_grad():
        torch.testing.assert_close(model(told).logits, found.logits, rtol=1e-4, atol=1e-4)
    assert len(records) == 3 and all(calls[0].shape == ("image", (2,)) for calls in records.values())


def test_pictures_may_lack_different_sensors():
    model, given = small.disturb(sensor_sam()), batch()
    available = torch.tensor([[True, True, False], [False, True, True]])
    with torch.no_grad():
        both = model({**given, "available": available})
        for i in range(2):
            alone = {"sensors": {n: x[i : i + 1] for n, x in given["sensors"].items()}}
            one = model({**alone, "available": available[i : i + 1]})
            torch.testing.assert_close(one.logits[0], both.logits[i], rtol=1e-4, atol=1e-4)


def test_dropping_is_not_zero_filling():
    given = batch(("rgb",))
    with torch.no_grad():
        dropped, zero = (small.disturb(sensor_sam(missing=how))(given) for how in ("drop", "zero"))
    assert (dropped.logits - zero.logits).abs().max() > 1e-3
    assert all(weights[:, 1:].any() for weights in zero.weights)


def test_a_single_sensor_leaves_the_router_nothing_to_learn():
    model = small.disturb(sensor_sam(("rgb",))).train()
    model({"image": torch.rand(2, 3, 64, 64)}).logits.square().mean().backward()
    for router in model.routers:
        assert not router.weight.grad.any()


def test_it_trains_and_is_saved(tmp_path):
    model, given = sensor_sam().train(), batch()
    mask = torch.randint(0, 4, (2, 64, 64))
    mask[:, :8] = 255
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 3e-3)
    values = []
    for _ in range(12):
        loss = heads.sensor_loss(
            model(given), mask, by=lambda x, y: nn.functional.cross_entropy(x, y, ignore_index=255)
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(float(loss.detach()))
    assert values[-1] < values[0]
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    unused = [n for n in trained if model.get_parameter(n).grad is None]
    assert not unused
    moe.save_adapter(model.eval(), tmp_path)
    fresh = moe.load_adapter(sensor_sam(method=False), tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(fresh(given).logits, model(given).logits)
    assert model(given).labels().shape == (2, 64, 64)


def test_tokens_may_begin_alike():
    decoder = ClassDecoder(3, 16, **SMALL_DECODER).alike()
    said = decoder.masks(decoder.mask_tokens.weight[None], torch.randn(1, 2, 4, 4))
    assert (said - said[:, :1]).abs().max() == 0
    assert AllMLPHead([2, 4], 3, 8)([torch.rand(1, 2, 4, 4), torch.rand(1, 4, 2, 2)]).shape == (1, 3, 4, 4)


@pytest.mark.parametrize("k", [1, 2])
def test_k_sensors_are_kept(k):
    with torch.no_grad():
        found = small.disturb(sensor_sam(router={"k": k}))(batch())
    assert all(((w > 0).sum(-1) == k).all() for w in found.weights)


def test_what_does_not_fit_is_said():
    model = sensor_sam()
    with pytest.raises(
        ValueError, match="all sensors are missing: the model knows rgb, depth, lidar, and is given x"
    ):
        model(batch(("x",)))
    with pytest.raises(ValueError, match="pictures of all sensors are of one shape"):
        model({"sensors": {"rgb": torch.rand(1, 3, 64, 64), "depth": torch.rand(1, 3, 32, 32)}})
    with pytest.raises(ValueError, match="a picture has no sensor at all"):
        model({**batch(), "available": torch.zeros(2, 3, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"the encoder has the sensors .*'lidar'\), the method \('rgb',\)"):
        moe.inject(sensor_sam(method=False), moe.MLESAM(("rgb",)))
    with pytest.raises(ValueError, match="no part of the model is an encoder of sensors"):
        moe.inject(Hiera(timm.create_model("sam2_hiera_tiny", num_classes=0)), moe.MLESAM(("rgb",)))
    with pytest.raises(ValueError, match="k is a whole number from 1 to the 3 sensors, got 4"):
        sensor_sam(router={"k": 4})
    with pytest.raises(ValueError, match="missing is 'drop' or 'zero'"):
        sensor_sam(missing="fill")
    for sensors in ((), ("rgb", "rgb")):
        with pytest.raises(ValueError, match="sensors are names, each once"):
            moe.MLESAM(sensors)
        with pytest.raises(ValueError, match="sensors are names, each once"):
            sensor_sam(sensors, method=False)
    with pytest.raises(TypeError, match="the trunk is a HieraDet"):
        Hiera(nn.Linear(2, 2))
