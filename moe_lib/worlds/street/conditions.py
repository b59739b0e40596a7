"""Weather and corner cases as data: their names, how strong they are in one scene, and whom they touch.

A case belongs to one sensor and touches no other; weather reaches every sensor, each in its own way.
"""

from dataclasses import dataclass

from moe_lib.worlds.draws import Draws

WEATHERS = ("sun", "cloud", "fog", "rain", "night")
CASES = ("none", "motion_blur", "over_exposure", "under_exposure", "lidar_jitter", "event_low_res")
TOUCHES = {  # the one sensor that a case spoils
    "motion_blur": "rgb",
    "over_exposure": "rgb",
    "under_exposure": "rgb",
    "lidar_jitter": "lidar",
    "event_low_res": "event",
}
# Three scenes in eight are without a case; with five weathers this covers every pair evenly.
_TURNS = ("none", "none", "none", *CASES[1:])

# Night's camera: gain, and electrons at white. With "spec" the night is hardly harder than the day.
NIGHTS = {"hard": (2.0, 60.0), "spec": (3.5, 200.0)}


@dataclass(frozen=True)
class Conditions:
    """Under what conditions a scene is seen. Angles in radians, temperatures in °C.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    weather: str
    case: str
    extinction: float  # of light by fog or rain, per metre
    gain: float  # of the camera, before the sensor clips
    full_well: float  # electrons at white
    air: float  # temperature
    blur: tuple[float, float]  # motion of the picture during the exposure, as shares of its width
    jitter: tuple[float, float]  # of the LiDAR's rays, as shares of the picture's height and width
    seed: int  # of the noise of the sensors


def turn(index: int) -> tuple[str, str]:
    """The weather and the case whose turn it is at an index."""
    return WEATHERS[index % len(WEATHERS)], _TURNS[index // len(WEATHERS) % len(_TURNS)]


def conditions(draws: Draws, weather: str, case: str, night: str = "hard") -> Conditions:
    """The conditions of one scene; the same numbers are drawn whatever the weather and the case are."""
    thick, bright, over, under, length, warm = draws.uniform(size=6)
    slope, down, right = draws.uniform(-1, 1, size=3)
    gain = 0.9 + 0.2 * bright
    full_well = 1500.0
    if weather == "night":
        gain, full_well = NIGHTS[night]
    gain *= {"over_exposure": 3 + 3 * over, "under_exposure": 0.05 + 0.07 * under}.get(case, 1.0)
    span = (7 + 7 * length) / 64 if case == "motion_blur" else 0.0
    jittered = case == "lidar_jitter"
    coldest = {"sun": 24, "cloud": 13, "fog": 5, "rain": 9, "night": 3}[weather]
    return Conditions(
        weather=weather,
        case=case,
        extinction={"fog": 0.03 + 0.06 * thick, "rain": 0.004 + 0.008 * thick}.get(weather, 0.0),
        gain=float(gain),
        full_well=full_well,
        air=float(coldest + 9 * warm),
        blur=(float(span), float(span * 0.35 * slope)),
        jitter=(float(0.08 * down * jittered), float(0.12 * right * jittered)),
        seed=draws.seed(),
    )
