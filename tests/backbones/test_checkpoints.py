"""Files of weights: what is saved comes back, and what does not fit or is not to be trusted is refused."""

import json
import os
import pickle
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import save_file

from moe_lib import backbones
from moe_lib.backbones import Sam, checkpoints
from moe_lib.backbones.registry import POCKET, VIT_B, card


@pytest.fixture
def ours(tmp_path) -> Path:
    """A file of this library."""
    path = tmp_path / "tiny.safetensors"
    checkpoints.save(tiny.sam(), path, {"model": "tiny", "note": "größer"})
    return path


@pytest.fixture
def official(tmp_path) -> Path:
    """A file as segment-anything's authors make them."""
    path = tmp_path / "sam_tiny.pth"
    torch.save(tiny.sam().state_dict(), path)
    return path


def test_what_is_saved_comes_back_in_half_precision(ours):
    model, expected = tiny.sam(seed=1), tiny.sam()
    assert checkpoints.load(model, ours) == {"model": "tiny", "note": "größer"}
    for name, values in model.state_dict().items():
        assert values.dtype == torch.float32
        assert torch.equal(values, expected.state_dict()[name].half().float()), name
    assert set(checkpoints.read_card(ours)) == {"model", "note", "checksum"}


def test_the_same_model_gives_the_same_bytes(ours, tmp_path):
    twin = tmp_path / "twin.safetensors"
    checkpoints.save(tiny.sam(), twin, {"model": "tiny", "note": "größer"})
    assert twin.read_bytes() == ours.read_bytes()
    assert oct(twin.stat().st_mode)[-3:] == "644"


def test_a_file_is_complete_or_not_there(tmp_path, monkeypatch):
    def dies(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "save_file", dies)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(tiny.sam(), tmp_path / "a.safetensors", {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [1e6, float("nan")])
def test_values_that_half_precision_cannot_hold(tmp_path, value):
    model = tiny.sam()
    with torch.no_grad():
        model.mask_decoder.iou_token.weight[0, 0] = value
    with pytest.raises(ValueError, match=r"mask_decoder\.iou_token\.weight does not fit"):
        checkpoints.save(model, tmp_path / "a.safetensors", {})
    with pytest.raises(ValueError, match=r"saved as \.safetensors"):
        checkpoints.save(model, tmp_path / "a.pth", {})


def test_an_official_file_loads_with_its_precision(official):
    model = tiny.sam(seed=1)
    assert checkpoints.load(model, official) == {}
    assert all(torch.equal(v, tiny.sam().state_dict()[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("name", ["vit_b"])
def test_the_real_model_loads_a_file_of_the_official_form(tmp_path, name):
    with torch.device("meta"):
        names = Sam(VIT_B).state_dict()
    # One number stands for each tensor: names, shapes and types are the official ones, the file is small.
    state = {key: torch.full((1,), i / 1000).expand(v.shape) for i, (key, v) in enumerate(names.items())}
    path = tmp_path / card("sam", name).file
    torch.save(state, path)
    sam = backbones.sam(name, checkpoint=path)
    assert not sam.training and not any(values.requires_grad for values in sam.parameters())
    assert all(torch.equal(sam.state_dict()[key], values) for key, values in state.items())


def test_a_file_of_another_model_is_named(tmp_path):
    path = tmp_path / "pocket.pth"
    torch.save(Sam(POCKET).state_dict(), path)
    with pytest.raises(ValueError, match=r"a file of sam\('pocket'\).*of another shape: .* in place of"):
        checkpoints.load(tiny.sam(), path)
    state = tiny.sam().state_dict()
    renamed = {name.replace("qkv", "query"): values for name, values in state.items()}
    torch.save(renamed, path)
    with pytest.raises(ValueError, match=r"no known model.*4 missing: .*qkv.*4 not expected: .*query.* …"):
        checkpoints.load(tiny.sam(), path)


class Hostile:
    """Pickled, it makes a folder when it is read."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("archive", [True, False], ids=["zip", "bare pickle"])
def test_nothing_in_a_hostile_file_is_run(tmp_path, archive):
    place, path = tmp_path / "was here", tmp_path / "sam_vit_b_01ec64.pth"
    state = {"image_encoder.pos_embed": Hostile(place)}
    if archive:
        torch.save(state, path)
    else:
        path.write_bytes(pickle.dumps(state, protocol=2))
    with pytest.raises(ValueError, match=r"refused, and nothing in it was run.*facebookresearch/seg"):
        backbones.sam("vit_b", checkpoint=path)
    assert not place.exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.99])
@pytest.mark.parametrize("kind", ["ours", "official"])
def test_a_truncated_file_is_refused(kind, share, request):
    path = request.getfixturevalue(kind)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"(incomplete|refused).*segment-anything on GitHub"):
        checkpoints.load(tiny.sam(), path)


def test_changed_weights_are_noticed(ours):
    whole = bytearray(ours.read_bytes())
    whole[-10] ^= 1
    ours.write_bytes(whole)
    with pytest.raises(ValueError, match="checksum differs"):
        checkpoints.load(tiny.sam(), ours)


def test_files_that_are_no_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere.*sam_vit_h_4b8939\.pth"):
        checkpoints.load(tiny.sam(), tmp_path / "nowhere.pth")
    with pytest.raises(ValueError, match="is a folder"):
        checkpoints.load(tiny.sam(), tmp_path)
    page = tmp_path / "page.pth"
    page.write_text("\n<!doctype html><title>Sign in</title>")
    with pytest.raises(ValueError, match="is a web page"):
        checkpoints.load(tiny.sam(), page)
    wrapped = tmp_path / "wrapped.pth"
    torch.save({"model": tiny.sam().state_dict(), "epoch": 3}, wrapped)
    with pytest.raises(ValueError, match="a dict with the keys model, epoch; expected a dict of names"):
        checkpoints.load(tiny.sam(), wrapped)
    bare = tmp_path / "bare.safetensors"
    save_file({"a": torch.zeros(2)}, bare)
    with pytest.raises(ValueError, match="no card"):
        checkpoints.load(tiny.sam(), bare)


def test_a_home_folder_is_found(ours, monkeypatch):
    monkeypatch.setenv("HOME", str(ours.parent))
    assert checkpoints.read_card(f"~/{ours.name}")["model"] == "tiny"


def test_cards_are_plain_json(ours):
    json.dumps(checkpoints.read_card(ours))
    with pytest.raises(ValueError):
        checkpoints.save(tiny.sam(), ours, {"loss": float("nan")})
