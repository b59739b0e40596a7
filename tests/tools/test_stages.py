"""Stages of the two encoders of chapter 01: measured as the chapter measures, and kept as it found them."""

import json

import pytest
import stages
import torch
from freshness import ROOT, read

from moe_lib import backbones
from moe_lib.backbones import registry

KEPT = ROOT / "book" / "results" / stages.CHAPTER


def test_a_trained_encoder_knows_more_than_an_untrained_one():
    torch.manual_seed(0)
    untrained = backbones.sam("pocket_global", weights=False).eval().requires_grad_(False)
    found = stages.measured({"masks": backbones.sam("pocket_global"), "untrained": untrained}, 4, 16, 3)
    assert set(found) == {
        f"{name} {what}" for name in ("masks", "untrained") for what in ("distance", "foreground", "class")
    }
    for what in ("foreground", "class"):
        assert found[f"masks {what}"]["low"] > found[f"untrained {what}"]["high"], what
    assert abs(found["untrained distance"]["estimate"] - 6.23) < 0.05  # everywhere alike, on 12 × 12
    assert found["masks distance"]["estimate"] < 6


def test_a_stage_is_named_by_its_card_and_others_are_refused():
    name, model = stages.opened(registry.WEIGHTS / "mae.safetensors")
    trained = next(
        run
        for run in json.loads((registry.WEIGHTS / "training.json").read_text())["runs"]
        if run["job"] == "mae"
    )
    assert name == f"MAE {trained['images']}"
    assert all(map(torch.equal, model.parameters(), backbones.mae().parameters()))
    with pytest.raises(
        SystemExit, match=r"hiera\.safetensors is of hiera; what is compared is sam_global, mae"
    ):
        stages.opened(registry.WEIGHTS / "hiera.safetensors")


def test_the_last_stages_are_what_the_chapter_measured():
    """What is kept of the shipped weights equals what the chapter's own run found."""
    kept = json.loads((KEPT / "stages.json").read_text())["quantities"]
    live = json.loads((KEPT / "pocket.json").read_text())["quantities"]
    last = {}
    for job, name in (("sam_global", "masks"), ("mae", "MAE")):
        last[name] = stages.opened(registry.WEIGHTS / f"{job}.safetensors")[0]
        for what in ("foreground", "class"):
            found, known = kept[f"{last[name]} {what}"]["estimate"], live[f"{what}_{name}"]["estimate"]
            assert found == pytest.approx(known, abs=2e-3), (name, what)
    apart = kept[f"{last['masks']} distance"]["estimate"] - kept[f"{last['MAE']} distance"]["estimate"]
    assert apart == pytest.approx(live["deep_distance_mask_minus_mae"]["estimate"], abs=2e-3)


def test_the_chapter_says_of_the_stages_what_was_measured():
    kept = json.loads((KEPT / "stages.json").read_text())["quantities"]
    text = "\n".join(cell.source for cell in read(ROOT / "chapters" / f"{stages.CHAPTER}.ipynb").cells)

    def apart(masks: int, mae: int, what: str) -> float:
        return kept[f"masks {masks} {what}"]["estimate"] - kept[f"MAE {mae} {what}"]["estimate"]

    first, equal, last = (129_280, 258_560), (400_000, 400_000), (400_000, 1_200_000)
    assert f"B1 was contradicted at {apart(*first, 'distance'):+.2f} patches" in text
    assert f"B2 inconclusive at {apart(*first, 'class'):+.3f}" in text
    hundredths = [round(100 * apart(*seen, "class")) for seen in (equal, last)]
    assert hundredths == [9, 4] and "leads in classes by nine hundredths; after equal time by four" in text
    assert apart(*first, "distance") < apart(*equal, "distance") < apart(*last, "distance")

    def series(name: str, what: str, digits: int) -> list[str]:
        found = [(int(key.split()[1]), q) for key, q in kept.items() if key.startswith(name) and what in key]
        return [f"{q['estimate']:.{digits}f}" for _, q in sorted(found, key=lambda stage: stage[0])]

    masks, mae = series("masks", "class", 2), series("MAE", "class", 2)
    assert f"Classes: {' to '.join(masks)} for masks; {', '.join(mae)} for the autoencoder." in text
    masks, mae = series("masks", "foreground", 2), series("MAE", "foreground", 2)
    assert f"Foreground: {' to '.join(masks)}, and {mae[0]} to {mae[-1]}." in text
    masks, mae = series("masks", "distance", 1), series("MAE", "distance", 1)
    assert f"Distance: {' to '.join(masks)}, and {', '.join(mae)}." in text
