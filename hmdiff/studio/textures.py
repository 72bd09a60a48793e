"""Surfaces for the capture studio: a small library of tiles and the paints mixed from them.

A tile is a repeating 128 x 128 pattern of numbers from 0 to 1; a paint shows one tile at some
size between two colours, so that a few dozen tiles give any number of clothes, walls and floors.
Some tiles are drawn here, some are taken from photographs that scikit-image carries. Colours are
linear light, RGB, 0 to 1, unless a name says sRGB.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

TILE = 128
PICTURES = (
    "chelsea.png", "coffee.png", "rocket.jpg", "hubble_deep_field.jpg", "motorcycle_left.png",
    "motorcycle_right.png", "ihc.png",
)  # fmt: skip
GRAIN = ("brick.png", "grass.png", "gravel.png", "coins.png", "page.png", "text.png", "moon.png")


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB values (0 to 1) as linear light, by the plain power of 2."""
    return np.square(srgb)


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light as sRGB values (0 to 1), clipped."""
    return np.sqrt(np.clip(linear, 0, 1))


def noise(rng: np.random.Generator, px: int, blur: float) -> np.ndarray:
    """A repeating field px x px of smooth noise, rank-equalised: its values fill 0 to 1 evenly."""
    field = gaussian_filter(rng.standard_normal((px, px)), blur, mode="wrap")
    ranks = np.empty(field.size)
    ranks[field.ravel().argsort()] = np.linspace(0, 1, field.size)
    return ranks.reshape(px, px)


def _drawn() -> dict[str, np.ndarray]:
    """Tiles made of formulas. x runs to the right, y downwards, both in [0, 1)."""
    y, x = np.mgrid[0:TILE, 0:TILE] / TILE
    rng = np.random.default_rng(1723)
    soft, fine, cloud = (noise(rng, TILE, s) for s in (5.0, 0.8, 16.0))
    wood = np.abs(((x * 3 + 0.35 * cloud) * 4) % 1 - 0.5) * 2

    def bars(t: np.ndarray, count: int, share: float) -> np.ndarray:
        return ((t * count) % 1 < share).astype(float)

    disc = np.hypot((x * 4) % 1 - 0.5, (y * 4) % 1 - 0.5) < 0.26
    pane = (np.abs((x * 2) % 1 - 0.5) < 0.3) & (np.abs((y * 2) % 1 - 0.5) < 0.36)
    herring = (x * 8 + np.where((y * 4).astype(int) % 2, y, -y) * 8) % 1
    return {
        "plain": 0.5 + 0.1 * (fine - 0.5),
        "mottled": 0.5 + 0.5 * (cloud - 0.5) + 0.1 * (fine - 0.5),
        "hoops": bars(y, 4, 0.5), "thin hoops": bars(y, 8, 0.22), "thick hoop": bars(y, 2, 0.4),
        "stripes": bars(x, 6, 0.5), "pinstripes": bars(x, 12, 0.2),
        "checks": (bars(x, 4, 0.5) + bars(y, 4, 0.5)) % 2,
        "plaid": 0.4 * bars(x, 3, 0.4) + 0.4 * bars(y, 3, 0.4) + 0.2 * bars(x, 6, 0.1),
        "dots": disc.astype(float), "panes": pane * (0.75 + 0.25 * soft),
        "blotches": np.digitize(cloud, [0.35, 0.65]) / 2.0,
        "camouflage": np.digitize(soft, [0.3, 0.55, 0.8]) / 3.0,
        "denim": 0.5 + 0.35 * (bars(x + y, 32, 0.5) - 0.5) * fine + 0.35 * (cloud - 0.5),
        "knit": 0.5 + 0.4 * np.sin(2 * np.pi * 16 * x) * np.sin(2 * np.pi * (16 * y + 2 * x)),
        "planks": 0.7 * wood * bars(x, 4, 0.95) + 0.2 * soft,
        "tiles": bars(x, 4, 0.94) * bars(y, 4, 0.94) * (0.7 + 0.3 * soft),
        "herringbone": herring, "leaves": np.sqrt(soft * fine),
    }  # fmt: skip


def _photo(name: str) -> Image.Image:
    """A picture out of scikit-image's wheel."""
    import skimage.data

    return Image.open(Path(skimage.data.__file__).parent / name)


def _grain(name: str) -> np.ndarray:
    """A photograph as a tile: in grey, stretched to 0..1, mirrored so that it repeats."""
    half = _photo(name).convert("L").resize((TILE // 2, TILE // 2), Image.Resampling.BOX)
    grey = np.asarray(half, float)
    low, high = np.percentile(grey, [2, 98])
    grey = np.clip((grey - low) / (high - low), 0, 1)
    grey = np.concatenate([grey, grey[:, ::-1]], 1)
    return np.concatenate([grey, grey[::-1]], 0)


@functools.cache
def tiles() -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Names, tiles (T x 128 x 128 float32, 0 to 1) and their means (T)."""
    drawn = _drawn() | {name.split(".")[0]: _grain(name) for name in GRAIN}
    stack = np.clip(np.stack(list(drawn.values())), 0, 1).astype(np.float32)
    return tuple(drawn), stack, stack.mean((1, 2), dtype=np.float32)


@functools.cache
def pictures(px: int = 320) -> np.ndarray:
    """Photographs of places and things, P x px x px x 3 uint8, sRGB; none shows a person."""
    shots = [_photo(name).convert("RGB").resize((px, px)) for name in PICTURES]
    return np.stack([np.asarray(shot) for shot in shots])


@dataclass(frozen=True)
class Paints:
    """M paints: rows of a table.

    Attributes:
        tile: M, index of the tile.
        size: M, length in metres of one repeat.
        a, b: M x 3, the colours at the tile's 0 and 1.
    """

    tile: np.ndarray
    size: np.ndarray
    a: np.ndarray
    b: np.ndarray

    def at(self, row: np.ndarray, uv: np.ndarray, footprint: np.ndarray) -> np.ndarray:
        """Colours n x 3 at n points: paint `row` (n), surface coordinates `uv` (n x 2, metres).

        `footprint` (n) is the metres that a pixel covers: finer detail fades to the tile's mean.
        """
        _, stack, mean = tiles()
        tile, size = self.tile[row], self.size[row]
        ij = (uv * (TILE / size)[:, None]).astype(np.int32) & (TILE - 1)
        sharp = np.minimum(np.float32(1), size * np.float32(4 / TILE) / footprint)
        grey = mean[tile]
        value = grey + sharp * (stack[tile, ij[:, 1], ij[:, 0]] - grey)
        return self.a[row] + (self.b - self.a)[row] * value[:, None]


def paint(name: str, size: float, a: np.ndarray, b: np.ndarray) -> tuple[int, float, list, list]:
    """One row for `paints`: the tile's name, the repeat in metres, two linear colours."""
    return tiles()[0].index(name), size, list(a), list(b)


def paints(rows: list[tuple[int, float, list, list]]) -> Paints:
    """The table of these rows."""
    tile, size, a, b = zip(*rows, strict=True)
    f = np.float32
    return Paints(np.array(tile), np.array(size, f), np.array(a, f), np.array(b, f))


def colour(
    rng: np.random.Generator,
    grey: float = 0.35,
    low: float = 0.05,
    high: float = 0.95,
    gaudy: float = 0.9,
) -> np.ndarray:
    """A random colour, linear; with probability `grey` nearly without hue, else saturated up to
    `gaudy`; its sRGB value lies between `low` and `high`."""
    hue, value = rng.random(), rng.uniform(low, high)
    saturation = rng.uniform(0, 0.12) if rng.random() < grey else rng.uniform(0.15, gaudy)
    wheel = np.abs((hue * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1
    return to_linear(value * (1 - saturation * (1 - np.clip(wheel, 0, 1))))


def shade(rng: np.random.Generator, base: np.ndarray, spread: float = 0.5) -> np.ndarray:
    """Another colour near `base`: brighter or darker by a factor of up to e^spread."""
    return np.clip(base * np.exp(rng.uniform(-spread, spread)) + rng.uniform(0, 0.04), 0, 1)
