"""Models by name: counts to the unit, official names, and what is said when weights are missing."""

from dataclasses import replace

import pytest
import torch
from segment_anything import sam_model_registry

from moe_lib import backbones
from moe_lib.backbones import Mae, Sam, build, registry

COUNTS = {"vit_b": 93_735_472, "vit_l": 312_342_832, "vit_h": 641_090_608}
IDS = [f"{card.family}-{card.name}" for card in registry.CARDS]
MAKERS = {"sam": Sam, "mae": Mae, "hiera": build._hiera, "vit": build._vit, "text": build._text}


@pytest.mark.parametrize("card", registry.CARDS, ids=IDS)
def test_cards_tell_the_numbers_of_parameters(card):
    with torch.device("meta"):
        model = MAKERS[card.family](card.sizes)
    count = sum(values.numel() for values in model.parameters())
    encoder = sum(values.numel() for values in getattr(model, "image_encoder", model).parameters())
    assert (count, encoder) == (card.parameters, card.encoder_parameters)
    assert count == COUNTS.get(card.name, count)


@pytest.mark.parametrize("name", COUNTS)
def test_the_real_models_have_the_official_names_and_shapes(name):
    with torch.device("meta"):
        theirs, ours = sam_model_registry[name](), Sam(registry.card("sam", name).sizes)
    shapes = [{key: values.shape for key, values in model.state_dict().items()} for model in (ours, theirs)]
    assert shapes[0] == shapes[1]
    assert registry.recognise(ours.state_dict()).name == name


@pytest.mark.parametrize("card", registry.CARDS, ids=IDS)
def test_a_state_is_recognised(card):
    """Of SAM and MAE; of the others nobody has a file by mistake."""
    with torch.device("meta"):
        model = MAKERS[card.family](card.sizes)
    expected = card if card.family in ("sam", "mae") else None
    assert registry.recognise(model.state_dict()) == expected
    assert registry.recognise({"a": torch.zeros(1)}) is None


def test_available_models_as_a_table():
    found = backbones.available()
    lines = str(found).splitlines()
    assert len(lines) == 1 + len(found) == 10
    assert lines[0].split() == [
        "model", "image", "tokens", "encoder", "parameters", "licence", "pretrained", "by", "weights",
    ]  # fmt: skip
    assert 'sam("vit_h")' in lines[5] and "641.1 M" in lines[5] and "sam_vit_h_4b8939.pth" in lines[5]
    assert all(line.endswith("here") for line in lines if '"pocket' in line)
    assert lines[9].split()[:3] == ['text("pocket")', "text", "16"]
    page = found._repr_html_()
    assert page.count("<tr>") == 10 and "sam(&quot;pocket&quot;)" in page


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"model 'pocket_globe'; sam has 'pocket'.*mean 'pocket_global'"):
        backbones.sam("pocket_globe")
    with pytest.raises(ValueError, match=r"mae has 'pocket'$"):
        backbones.mae("vit_b")


def test_real_weights_are_asked_for():
    with pytest.raises(ValueError, match=r"sam_vit_l_0b3195\.pth from .*checkpoint=.*weights=False"):
        backbones.sam("vit_l")


def test_missing_pocket_weights_say_how_to_make_them(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"missing; `python -m moe_lib\.backbones\.pretrain mae` makes"
    ):
        backbones.mae()
    assert "missing" in str(backbones.available())
    assert registry.card("sam", "pocket").sha256 is None


def test_without_weights_a_model_can_be_trained():
    sam = backbones.sam("pocket", weights=False)
    assert sam.training and all(values.requires_grad for values in sam.parameters())
    with pytest.raises(ValueError, match=r"weights=False leaves no use for checkpoint='x\.pth'"):
        backbones.sam("pocket", "x.pth", weights=False)


def test_twins_differ_in_what_their_names_say():
    pocket, twin = (registry.card("sam", name).sizes for name in ("pocket", "pocket_global"))
    assert replace(pocket, window=0, global_blocks=(), relative=False) == twin
    assert registry.card("mae", "pocket").sizes == twin
