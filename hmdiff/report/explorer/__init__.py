"""The explorer: one page in which an analyst digs through the errors, image by image.

Here is what the page knows: per-image errors as they stand in the parquet files, strata, the sweep
over the number of steps, a small picture of every image, and for a fixed choice of images the
meshes themselves. What a browser makes of it lies beside this file: page.html, style.css,
numbers.js, which decodes, filters and resamples and touches no page (its bootstrap makes the very
draws of `stats.bootstrap_means`, so that an interval there is the report's), and views.js, which
draws. A content security policy forbids every network request. The same data gives the same bytes.

Notation: n images, V vertices of the coarse mesh, J joints, S bins of a heatmap.
"""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from ... import stats
from ...body import JOINT_NAMES, BodyModel
from ...closed_form import Gains, predict_plus
from ...crops import crop
from ...evaluate import LIFT, Bench, Knobs, full_mesh_mm, lift
from ...files import write_file
from ...hypotheses import draw, spread
from ...metrics import METRICS, PROTOCOLS
from ...params import Params
from ...recovery.page import embedded
from ...recovery.photo import fit_translation
from ...splits import Split
from ...strata import KINDS
from ...viewer import dress, overlay
from ..canvas import OKABE_ITO
from ..figures import methods_of, swept
from ..front_page import html, in_order
from ..labels import labels
from ..paper import LABELS, LOWER
from ..tables import PLUS

LIMIT_BYTES = 15_000_000
IMAGES = 500  # of a set, evenly spaced if there are more: what a page can hold
EVENLY, WORST = 20, 4  # images of a set whose meshes are kept: evenly spaced, and the worst of Ours
TRUTH, OURS = "Truth", "Ours"
UNIT_MM = 0.1  # of stored coordinates; 16 bits reach 3.2 m
THUMB_PX, PICTURE_PX, TILES = 88, 224, 6


def packed(values: np.ndarray, kind: str) -> str:
    """An array as base64 of little-endian numbers, such as "<f4"."""
    return base64.b64encode(np.ascontiguousarray(values, kind).tobytes()).decode()


def quantised(lengths_mm: np.ndarray) -> str:
    """Lengths in units of UNIT_MM, 16 bits; what diverged beyond that lies at the limit."""
    units = np.nan_to_num(np.asarray(lengths_mm, np.float64) / UNIT_MM)
    return packed(np.round(units).clip(-32767, 32767), "<i2")


def tabulate(
    dataset: str, errors: pd.DataFrame, strata: pd.DataFrame, sweeps: pd.DataFrame
) -> dict:
    """The numbers of one set.

    Images stand in the order of `stats.by_image`, so that the page's bootstrap draws the same ones.

    Args:
        errors: of every system, `stats.read_errors`.
        strata: image, dataset and the kinds of `strata.KINDS` that the set has.
        sweeps: validation errors, `evaluate.sweep`.

    Raises:
        ValueError: a system lacks some of the images.
    """
    errors, strata, sweeps = (
        frame[frame["dataset"] == dataset] for frame in (errors, strata, sweeps)
    )
    strata = stats.named(strata).set_index("image").sort_index()
    total = len(strata)
    strata = strata.iloc[np.linspace(0, total - 1, min(IMAGES, total)).astype(int)]
    people = errors.drop_duplicates("image").set_index("image")["person"]
    systems: dict[str, dict] = {}
    for (method, seed), run in errors.groupby(["method", "seed"], sort=False):
        run = run.set_index("image")
        if missing := strata.index.difference(run.index).size:
            raise ValueError(
                f"{method!r}, seed {seed}, on {dataset}: lacks {missing} of {len(strata)} test "
                "images; delete its errors and run `dvc repro`"
            )
        run = run.loc[strata.index]
        measured = {m: packed(run[m], "<f4") for m in METRICS if run[m].notna().any()}
        found = {"steps": int(run["steps"].iloc[0]), "errors": measured}
        systems.setdefault(method, {})[str(seed)] = found
    kinds = {kind: names for kind, names in KINDS.items() if strata.get(kind) is not None}
    kinds = {kind: names for kind, names in kinds.items() if strata[kind].notna().all()}
    return {
        "total": total,
        "images": list(strata.index),
        "people": [str(person) for person in people[strata.index]],
        "strata": {
            kind: [names.index(name) for name in strata[kind]] for kind, names in kinds.items()
        },
        "systems": systems,
        "sweeps": {
            seed: against_steps(rows)
            for seed, rows in {
                "all": sweeps,
                **{str(seed): rows for seed, rows in sweeps.groupby("seed")},
            }.items()
        },
    }


def against_steps(sweeps: pd.DataFrame) -> dict[str, dict[str, list]]:
    """By metric and method: steps, mean, and the ends of its interval over validation images."""
    found: dict[str, dict[str, list]] = {}
    for metric in METRICS:
        if not sweeps[metric].notna().any():
            continue
        found[metric] = {}
        for method in methods_of(sweeps, "steps"):
            intervals = swept(sweeps, method, "steps", metric)
            found[metric][method] = [
                [int(steps), *(round(float(x), 4) for x in (one.mean, one.low, one.high))]
                for steps, one in intervals.items()
                if np.isfinite(one.mean)
            ]
    return found


def choose(mpve: np.ndarray) -> list[int]:
    """Positions whose meshes are kept: evenly spaced ones, and those where Ours is worst."""
    even = np.linspace(0, len(mpve) - 1, min(EVENLY, len(mpve))).astype(int)
    order = np.argsort(-np.nan_to_num(mpve, nan=np.inf), kind="stable")
    worst = [i for i in order if i not in even][:WORST]
    return sorted({*even.tolist(), *map(int, worst)})


def thumbnails(
    places: pd.DataFrame, read_image: Callable[[str], np.ndarray], box_scale: float
) -> list[str]:
    """A small crop of each image, as data URIs; `places` are rows of index.parquet."""
    return [shrunk(cut(read_image(p.image), p, box_scale, THUMB_PX)) for p in places.itertuples()]


def cut(picture: np.ndarray, place, box_scale: float, px: int) -> np.ndarray:
    """The square about a person that the networks see, px x px x 3."""
    return crop(picture, box_of(place), box_scale, px)[0]


def box_of(place) -> np.ndarray:
    """x, y, w, h of a row of index.parquet."""
    return np.array([place.box_x, place.box_y, place.box_w, place.box_h], np.float64)


def shrunk(picture: np.ndarray) -> str:
    """A picture as a WebP data URI."""
    return embedded(Image.fromarray(picture), "webp")


def shown(
    bench: Bench, part: Split, gains: Gains, tuned: dict[str, Knobs], model: BodyModel,
    read_image: Callable[[str], np.ndarray],
) -> list[dict]:  # fmt: skip
    """Pictures, heatmaps and meshes of each image of `part`.

    The meshes are drawn anew, in other batches than those of the tables, so with other noise.
    """
    centres, spread_mm = predictions(bench, part, gains, tuned)
    root = bench.mesh.f[PROTOCOLS[bench.subject].root].cpu()
    to_mm, box_scale = 1000 * part.scale_m, bench.params.prepare.box_scale
    rooted_mm = {name: to_mm * (h - (root @ h)[:, None]).numpy() for name, h in centres.items()}
    full_m = full_mesh_mm(bench, centres[OURS], part.scale_m).detach().double().numpy() / 1000
    joints = {TRUTH: bench.mesh.f.cpu() @ part.h_0, "mean of U": part.u_mean}
    found = []
    for i, place in enumerate(part.index.itertuples()):
        picture = read_image(place.image)
        predicted = predicted_over(picture, full_m[i], place, model)
        found.append(
            {
                "crop": shrunk(cut(picture, place, box_scale, PICTURE_PX)),
                "overlay": shrunk(cut(predicted, place, box_scale, PICTURE_PX)),
                "heat": heatmap_sheet(part.U.E_xy[i].numpy()),
                "joints": {name: in_cube(u[i], part.U.cube) for name, u in joints.items()},
                "meshes": {name: quantised(h[i]) for name, h in rooted_mm.items()},
                "spread": {name: quantised(s[i]) for name, s in spread_mm.items()},
            }
        )
    return found


def predictions(
    bench: Bench, part: Split, gains: Gains, tuned: dict[str, Knobs]
) -> tuple[dict[str, Tensor], dict[str, np.ndarray]]:
    """By name, coarse meshes (n, V, 3), normalised, the true ones among them; and the `spread` of
    the hypotheses behind them (n x V, mm), where there are several."""
    drawn = {
        name: draw(bench, name, tuned, part, gains, tuned[name].hypotheses).h_0
        for name in (OURS, PLUS)
    }
    centres = {
        TRUTH: part.h_0,
        OURS: drawn[OURS].mean(dim=1),
        PLUS: predict_plus(bench, tuned[PLUS], part, gains.G),
        LIFT: lift(bench, part.u_mean).detach().cpu(),
    }
    spread_mm = {
        name: 1000 * part.scale_m * spread(h_0.numpy())
        for name, h_0 in drawn.items()
        if h_0.shape[1] > 1
    }
    return centres, spread_mm


def in_cube(u: Tensor, cube: float) -> list[list[float]]:
    """x and y of joints (J x 3) as shares of the cube's side."""
    return (u[:, :2].double() / cube + 0.5).numpy().round(4).tolist()


def predicted_over(
    picture: np.ndarray, vertices_m: np.ndarray, place, model: BodyModel
) -> np.ndarray:
    """The full mesh over its image, placed so that it fills the box; a diverged one is left out."""
    if not np.isfinite(vertices_m).all():
        return picture
    K = np.array([[place.fx, 0, place.cx], [0, place.fy, place.cy], [0, 0, 1.0]])
    t = fit_translation(vertices_m, box_of(place), K)
    colour = dress(model.parts.numpy())
    return overlay(picture, vertices_m + t, model.faces.numpy(), K, colour)


def heatmap_sheet(E_xy: np.ndarray) -> str:
    """E_xy (J x S x S) as one grey picture of tiles, row by row, each as bright as its maximum.

    Brightness is the root of the probability, in 32 levels, so that tails are seen.
    """
    share = np.sqrt(E_xy / np.maximum(E_xy.max(axis=(1, 2), keepdims=True), 1e-12))
    tiles = np.round(share * 31) * (255 / 31)
    J, S, _ = tiles.shape
    lines = -(-J // TILES)
    sheet = np.zeros((lines * TILES, S, S))
    sheet[:J] = tiles
    sheet = sheet.reshape(lines, TILES, S, S).swapaxes(1, 2).reshape(lines * S, TILES * S)
    return embedded(Image.fromarray(np.round(sheet).astype(np.uint8)), "png")


def illustrate(
    sets: dict[str, dict], bench: Bench, test: Split, gains: Gains, tuned: dict[str, Knobs],
    model: BodyModel, read_image: Callable[[str], np.ndarray],
) -> None:  # fmt: skip
    """Add pictures and meshes to the sets of `tabulate` that are of the bench's subject."""
    places = stats.named(test.index)
    for dataset, found in sets.items():
        of_set = places[places["dataset"] == dataset]
        if of_set.empty:
            continue
        at = pd.Series(of_set.index, of_set["image"])[found["images"]].to_numpy()
        mpve = found["systems"][OURS][str(bench.seed)]["errors"]["MPVE"]
        kept = choose(np.frombuffer(base64.b64decode(mpve), "<f4"))
        scale = bench.params.prepare.box_scale
        found["thumbs"] = thumbnails(test.index.loc[at], read_image, scale)
        meshes = shown(bench, test.take(at[kept]), gains, tuned, model, read_image)
        found["shown"] = dict(zip(map(str, kept), meshes, strict=True))
        found["faces"] = packed(bench.mesh.faces.cpu().numpy(), "<u2")
        found["joints"] = list(JOINT_NAMES[bench.subject][: bench.mesh.f.shape[0]])
        found["heat_px"] = int(test.U.side)
        found["cube_m"] = round(float(test.U.cube * test.scale_m), 4)
        found["seed"] = bench.seed
        found["hypotheses"] = tuned[OURS].hypotheses


def gather(sets: dict[str, dict], settings: Params) -> dict:
    """The page's data: the sets, and what they share."""
    state = np.random.default_rng(0).bit_generator.state["state"]  # of stats.bootstrap_means
    viridis = colormaps["viridis"](np.linspace(0, 1, 64))[:, :3]
    words = labels(settings)
    return {
        "origin": words.origin,
        "made": words.made,
        "profile": settings.profile,
        "resamples": settings.stats.bootstrap,
        "level": settings.stats.level,
        "generator": {name: str(value) for name, value in state.items()},
        "metrics": {
            name: {
                "label": LABELS[name],
                "unit": "mm" if name in LOWER else "share",
                "lower": name in LOWER,
            }
            for name in METRICS
        },
        "kinds": {kind: list(names) for kind, names in KINDS.items()},
        "unit_mm": UNIT_MM,
        "tiles": TILES,
        "colours": OKABE_ITO,
        "viridis": np.round(255 * viridis).astype(int).tolist(),
        "sets": {name: {"label": words.sets[name], **found} for name, found in sets.items()},
    }


def reported(reports: Path) -> list[tuple[str, Markup]]:
    """The claims sheet and the paper's six tables as they lie in `reports`: title and HTML.

    Raises:
        FileNotFoundError: they are not there.
    """
    sheets = [reports / "claims.md", *sorted(reports.glob("tables/table?.md"), key=in_order)]
    if len(sheets) != 7 or not sheets[0].is_file():
        raise FileNotFoundError(f"{reports}: claims or tables missing; run `dvc repro report`")
    parts = (path.read_text("utf-8").lstrip().partition("\n") for path in sheets)
    return [(heading.lstrip("# "), html(text)) for heading, _, text in parts]


def asset(name: str) -> str:
    """The text of a file beside this one."""
    return Path(__file__).with_name(name).read_text("utf-8")


def write(data: dict, sheets: list[tuple[str, Markup]], out: Path) -> Path:
    """Write the page of `gather`'s data and of the `reported` sheets; returns its path.

    Raises:
        ValueError: it would be larger than LIMIT_BYTES.
    """
    # No "<" in it, so that no text of the data can end the script element that holds it.
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = template.from_string(asset("page.html")).render(
        data=Markup(text),
        style=Markup(asset("style.css")),
        script=Markup(asset("numbers.js") + asset("views.js")),
        kinds=KINDS,
        sheets=sheets,
        whole=all(found["total"] == len(found["images"]) for found in data["sets"].values()),
        **{name: data[name] for name in ("profile", "origin", "made")},
    )
    size = len(page.encode())
    if size > LIMIT_BYTES:
        raise ValueError(f"{out}: {size / 1e6:.1f} MB, over {LIMIT_BYTES / 1e6:g}; lower IMAGES")
    write_file(out, page)
    return out


def read(path: Path) -> dict:
    """The data in a written page.

    Raises:
        ValueError: it holds none.
    """
    marker = '<script type="application/json" id="data">'
    _, found, rest = path.read_text("utf-8").partition(marker)
    if not found:
        raise ValueError(f"{path}: holds no data of the explorer; run `dvc repro explorer`")
    return json.loads(rest.partition("</script>")[0])


def errors_in(data: dict) -> pd.DataFrame:
    """The per-image errors in a page's data, a row for each dataset, image, method and seed."""
    frames = []
    for dataset, found in data["sets"].items():
        for method, runs in found["systems"].items():
            for seed, run in runs.items():
                frame = pd.DataFrame({"image": found["images"], "dataset": dataset})
                frame["method"], frame["seed"] = method, int(seed)
                for metric, text in run["errors"].items():
                    frame[metric] = np.frombuffer(base64.b64decode(text), "<f4")
                frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def strata_in(data: dict, dataset: str) -> pd.DataFrame:
    """The strata in a page's data: a row for each image of a set, a column for each kind."""
    found = data["sets"][dataset]
    columns = {
        kind: [data["kinds"][kind][at] for at in places] for kind, places in found["strata"].items()
    }
    return pd.DataFrame(columns, index=pd.Index(found["images"], name="image"))
