"""The picture of the front page: painted, learnt, composed and written down, all very small."""

import json

import cover
import numpy as np
import pytest
import torch
from PIL import Image

SIZE, EXPERTS = 64, 8


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def picture():
    return cover.scene(SIZE, seed=0)


@pytest.fixture(scope="module")
def trained(picture):
    return cover.train(picture, EXPERTS, steps=120, batch=256)


def test_a_seed_gives_one_scene(picture):
    assert picture.shape == (29, SIZE, 3)
    assert picture.min() >= 0 and picture.max() <= 1
    assert np.array_equal(picture, cover.scene(SIZE, seed=0))
    assert not np.array_equal(picture, cover.scene(SIZE, seed=1))


def test_training_explains_the_scene(picture, trained):
    model, errors = trained
    assert np.mean(errors[-10:]) < 0.5 * np.mean(errors[:10])
    said, alone, _ = cover.ask(model, *picture.shape[:2])
    one_colour = torch.from_numpy(picture.mean((0, 1), keepdims=True)).expand_as(said)
    target = torch.from_numpy(picture)
    assert cover.psnr(said, target) > cover.psnr(one_colour, target) + 3
    assert cover.psnr(alone, target) > cover.psnr(one_colour, target) + 3


def test_a_seed_gives_one_mixture(picture):
    (_, first), (_, second), (_, other) = (cover.train(picture, EXPERTS, 5, seed, 64) for seed in (0, 0, 1))
    assert first == second != other


def test_gates_sum_to_one_and_experts_are_planes(trained):
    model, _ = trained
    p = torch.tensor([[0.1, 0.2], [0.6, 0.5], [1.1, 0.8]])  # the second lies halfway between the others
    with torch.no_grad():
        gates, answers = model(p)
    assert gates.shape == (3, EXPERTS) and answers.shape == (3, EXPERTS, 3)
    torch.testing.assert_close(gates.exp().sum(-1), torch.ones(3))
    torch.testing.assert_close(answers[1], (answers[0] + answers[2]) / 2)


def test_most_experts_have_a_territory(picture, trained):
    _, _, who = cover.ask(trained[0], *picture.shape[:2])
    assert who.shape == picture.shape[:2]
    assert len(who.unique()) > EXPERTS / 2


def test_the_picture_goes_from_the_scene_to_the_experts(picture, trained):
    out = cover.compose(picture, trained[0])
    assert out.shape == picture.shape and np.isfinite(out).all()
    quarter = SIZE // 4
    np.testing.assert_allclose(out[:, :quarter], picture[:, :quarter], atol=1e-6)
    assert np.abs(out[:, -quarter:] - picture[:, -quarter:]).mean() > 0.02


def test_the_command_writes_picture_card_and_facts(tmp_path, capsys):
    out = tmp_path / "cover.webp"
    cover.main(["--size", "64", "--experts", "4", "--steps", "3", "--seed", "1", "--out", str(out)])
    image, facts = Image.open(out), json.loads(out.with_suffix(".json").read_text())
    assert image.size == (64, 29) and image.mode == "RGBA"
    assert image.getpixel((0, 0))[3] < 128 < image.getpixel((32, 14))[3]  # round corners
    assert Image.open(tmp_path / "card.png").size == (1200, 630)
    assert facts["command"] == "python book/tools/cover.py --size 64 --experts 4 --steps 3 --seed 1"
    assert facts["experts"] == 4 and facts["steps"] == 3 and np.isfinite(facts["psnr"])
    assert facts["torch"] == torch.__version__ and facts["device"].startswith("cpu")
    assert str(tmp_path) not in out.with_suffix(".json").read_text()
    assert "psnr" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "reason"), [("--size=8", "width of at least 32"), ("--experts=1", "at least 2")]
)
def test_impossible_wishes_are_explained(option, reason, tmp_path, capsys):
    with pytest.raises(SystemExit):
        cover.main(["--size=64", "--steps=1", option, "--out", str(tmp_path / "cover.webp")])
    assert reason in capsys.readouterr().err


def test_the_committed_picture_is_what_its_facts_say():
    facts = json.loads((cover.STATIC / "cover.json").read_text())
    path = cover.STATIC / "cover.webp"
    assert path.stat().st_size <= 300_000
    assert Image.open(path).size == (facts["size"], round(facts["size"] / cover.ASPECT))
    assert facts["experts_in_charge_somewhere"] > facts["experts"] / 2
