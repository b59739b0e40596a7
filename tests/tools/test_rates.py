"""Learning rates: every method gets its candidates, the decoder's rate comes first and is kept."""

import pytest
import rates


def test_the_best_candidate_wins_and_every_score_is_kept():
    best, scores = rates.search("LoRA", [1e-3, 1e-2], lambda rate: [rate, 3 * rate])
    assert best == 1e-2 and scores == {"LoRA 0.001": [1e-3, 3e-3], "LoRA 0.01": [1e-2, 3e-2]}
    assert rates.search("toy", [1e-3, 1e-2], lambda rate: [rate], min)[0] == 1e-3


def test_the_decoder_comes_first_and_its_rate_is_given_to_the_others():
    asked = []

    def run(method: str, rate: float, parts: dict) -> list[float]:
        asked.append((method, rate, parts))
        return [-abs(rate - 2.0)]

    candidates = {"LoRA": [1.0, 3.0], "decoder": [1.0, 2.0, 5.0]}
    found, scores = rates.chosen(candidates, "decoder", run, {"LoRA": "L", "decoder": "D"})
    assert found == {"decoder": 2.0, "LoRA": 1.0} and len(scores) == 5
    assert asked[:3] == [("D", 1.0, {}), ("D", 2.0, {}), ("D", 5.0, {})]
    assert asked[3:] == [("L", 1.0, {"mask_decoder": 2.0}), ("L", 3.0, {"mask_decoder": 2.0})]


def test_what_is_lifted_out_of_chapter_02_trains(monkeypatch, tmp_path):
    monkeypatch.setenv("MOE_CACHE", str(tmp_path))
    monkeypatch.setattr(rates, "STEPS", 1)
    monkeypatch.setattr(rates, "SCENES", 2)
    seen = {}

    def first_of_each(groups, decoder, run, methods):
        assert set(groups) == set(methods) and decoder in groups
        seen.setdefault("score", run(methods["LoRA"], 1e-3, {"mask_decoder": 1e-3}))
        return dict.fromkeys(groups, 1e-3), {"LoRA 0.001": seen["score"]}

    monkeypatch.setattr(rates, "chosen", first_of_each)
    monkeypatch.setattr(rates, "search", lambda name, *rest: (0, {f"{name} 0.001": [0.0]}))
    scores = rates.small_changes()
    assert 0 <= seen["score"][0] <= 1
    assert set(scores) == {
        "polyps LoRA 0.001",
        "roads LoRA 0.001",
        "polyps rank 16 0.001",
        "polyps rank 32 0.001",
    }


def test_what_is_lifted_out_of_chapter_03_routes(monkeypatch, tmp_path):
    monkeypatch.setenv("MOE_CACHE", str(tmp_path))
    monkeypatch.setattr(rates, "TOY_SEEDS", [100])
    monkeypatch.setattr(rates, "SCENES", 2)
    errors = {}

    def one(name, candidates, run, best):
        assert best is min and len(candidates) > 2
        if name == "switch":
            errors[name] = run(1e-2)
        return candidates[0], {f"{name} 1": [0.0]}

    def routers(groups, decoder, run, methods):
        assert set(groups) == set(methods) == {"decoder", "learned", "random", "constant", "mean input"}
        return {}, {"learned 1": [0.0]}

    monkeypatch.setattr(rates, "search", one)
    monkeypatch.setattr(rates, "chosen", routers)
    scores = rates.experts_and_routers()
    assert errors["switch"][0] == pytest.approx(0.4, abs=0.3)
    assert {"toy soft 1", "toy balance only 1", "sam learned 1"} <= set(scores)
