"""The explorer says what the parquet files say, its scripts compute what `stats` computes, and it
works in a browser, without a network, on a telephone."""

import base64
import io
import itertools
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from browser import browser, program
from frames import errors_frame
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup
from PIL import Image
from tiny import SEED

from hmdiff import body, closed_form, params, stats
from hmdiff.evaluate import Knobs, load_bench
from hmdiff.metrics import METRICS, PROTOCOLS
from hmdiff.pose import PoseDistribution
from hmdiff.report import explorer, front_page
from hmdiff.report.figures import swept
from hmdiff.report.tables import PLUS, SUBJECTS
from hmdiff.splits import Split, load_split
from hmdiff.strata import KINDS
from hmdiff.viewer import View

N, S = 10, 16  # images of a set, bins of a heatmap
SYSTEMS = ("Ours", PLUS, explorer.LIFT, "Image Feature", "Mean of U")
SEEDS = (SEED, SEED + 1)
TUNED = Knobs(steps=2, gamma=0.2, r=0.05, N=5, hypotheses=3, eta=0.0)
KEYS = ["dataset", "method", "seed", "image"]


@pytest.fixture(scope="module")
def errors() -> pd.DataFrame:
    """Random errors; Mean of U has no mesh, bodies have no F-scores, one image of Ours diverged."""

    def values(dataset, method, key):
        rng = np.random.default_rng([len(dataset), *key])
        found = {name: rng.gamma(4, 30, N).astype(np.float32) for name in METRICS}
        if method == "Mean of U":
            found |= dict.fromkeys(("MPVE", "PA_MPVPE"), np.full(N, np.nan, np.float32))
        if dataset != "freihand":
            found |= dict.fromkeys(("F5", "F15"), np.full(N, np.nan, np.float32))
        if dataset == "human36m" and method == "Ours":
            found["MPJPE"][3] = np.nan
        return found

    return errors_frame(values, SYSTEMS, {"Ours": 2}, SEEDS, N).assign(person="p-1")


@pytest.fixture(scope="module")
def strata(errors) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    rows = errors[["image", "dataset"]].drop_duplicates(ignore_index=True)
    rows = rows.assign(**{kind: rng.choice(names, len(rows)) for kind, names in KINDS.items()})
    rows.loc[rows["dataset"] == "freihand", "facing"] = None
    return rows.sample(frac=1, random_state=0)  # in whatever order


@pytest.fixture(scope="module")
def sweeps(errors) -> pd.DataFrame:
    some = errors[errors["method"].isin(["Ours", "Image Feature"])]
    some = some.assign(knob="steps", diverged=0.0)
    grid = [some.assign(steps=s, value=float(s), MPVE=some["MPVE"] + s) for s in (1, 5)]
    return pd.concat([*grid, some.assign(knob="gamma", value=0.2)], ignore_index=True)


def split_of(subject: str, run: Path, settings) -> tuple[Split, Split]:
    """Test images for the errors' names, of random meshes; and the split that trains g."""
    g = load_split(subject, "g", run / "data", settings.phi.cube_m[subject])
    sets = [name for name, of in SUBJECTS.items() if of == subject]
    n = N * len(sets)
    index = pd.DataFrame(
        {
            "image": [f"{i:03}.jpg" for i in range(N)] * len(sets),
            "dataset": np.repeat(sets, N),
            **{"fx": 80.0, "fy": 80.0, "cx": 32.0, "cy": 32.0},
            **{"box_x": 8.0, "box_y": 4.0, "box_w": 40.0, "box_h": 56.0},
        }
    )
    part = g.take(slice(0, n))
    J = part.u_mean.shape[1]
    E = torch.rand(n, 2, J, S, S, generator=torch.Generator().manual_seed(5)) ** 8
    E /= E.sum((-1, -2), keepdim=True)
    U = PoseDistribution(*E.unbind(1), cube=settings.phi.cube_m[subject] / g.scale_m)
    full = body.load(run / f"data/models/{subject}.npz").layer.v_template
    fields = vars(part) | {"index": index, "U": U, "mesh": full.float().expand(n, -1, -1)}
    return Split(**fields), g


SHEETS = [("Claims", Markup("<p>DAT <em>holds</em></p>")), ("Table 1. T", Markup("<p>1</p>"))]


def photo(path: str) -> np.ndarray:
    """Another picture for every name."""
    return np.random.default_rng(int(path[:3])).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def made(tiny_run, errors, strata, sweeps, tmp_path_factory) -> tuple[Path, dict[str, tuple]]:
    """A page of untrained networks, and by subject what it was drawn from: bench and split."""
    settings = params.load(tiny_run / "params.yaml")
    sets = {name: explorer.tabulate(name, errors, strata, sweeps) for name in SUBJECTS}
    drawn = {}
    for subject in ("body", "hand"):
        bench = load_bench(subject, SEED, tiny_run / "data", settings)
        part, g = split_of(subject, tiny_run, settings)
        model = body.load(tiny_run / f"data/models/{subject}.npz")
        tuned = {"Ours": TUNED, PLUS: TUNED}
        gains = closed_form.fit(bench, g, part, TUNED.steps)
        explorer.illustrate(sets, bench, part, gains, tuned, model, photo)
        drawn[subject] = (bench, part)
    out = tmp_path_factory.mktemp("reports") / "explorer.html"
    return explorer.write(explorer.gather(sets, settings), SHEETS, out), drawn


@pytest.fixture(scope="module")
def page(made) -> Path:
    return made[0]


@pytest.fixture(scope="module")
def known(page) -> dict:
    return explorer.read(page)


# --- what the page knows -------------------------------------------------------------------------


def test_the_errors_in_the_page_are_those_of_the_files(known, errors):
    there = explorer.errors_in(known).set_index(KEYS).sort_index()
    stored = errors.set_index(KEYS).sort_index()[list(there.columns)].astype("float32")
    assert len(there) == len(errors) and there.astype("float32").equals(stored)
    assert set(there.columns) == set(METRICS)


def test_strata_and_people_stand_beside_their_images(known, strata):
    truth = strata.set_index(["dataset", "image"])
    for dataset, found in known["sets"].items():
        table = explorer.strata_in(known, dataset)
        pd.testing.assert_frame_equal(table, truth.loc[dataset].loc[table.index, table.columns])
        assert found["images"] == sorted(found["images"]) and len(found["images"]) == N
        assert set(found["people"]) == {"p-1"}
        assert ("facing" in found["strata"]) == (dataset != "freihand")
        for kind, of in found["strata"].items():
            names = [known["kinds"][kind][k] for k in of]
            assert names == [truth.loc[(dataset, image), kind] for image in found["images"]]


def test_the_sweep_in_the_page_is_that_of_the_figures(known, sweeps):
    rows = sweeps[(sweeps["dataset"] == "freihand") & (sweeps["seed"] == SEED)]
    found = known["sets"]["freihand"]["sweeps"]
    truth = swept(rows, "Ours", "steps", "MPVE")
    assert [line[0] for line in found[str(SEED)]["MPVE"]["Ours"]] == [1, 5]
    for steps, mean, low, high in found[str(SEED)]["MPVE"]["Ours"]:
        one = truth[float(steps)]
        assert np.allclose([mean, low, high], [one.mean, one.low, one.high], atol=1e-4)
    means = sweeps[(sweeps["dataset"] == "freihand") & (sweeps["knob"] == "steps")]
    means = means.groupby(["method", "value"])["MPVE"].mean()
    assert found["all"]["MPVE"]["Image Feature"][1][1] == pytest.approx(
        means["Image Feature", 5.0], abs=1e-3
    )
    assert "F5" not in known["sets"]["threedpw"]["sweeps"]["all"]


def test_a_system_that_lacks_images_is_one_clear_line(errors, strata, sweeps):
    gone = errors["method"].eq("Ours") & errors["image"].eq("004.jpg")
    with pytest.raises(ValueError, match="'Ours', seed 3, on threedpw: lacks 1 of 10") as caught:
        explorer.tabulate("threedpw", errors[~gone], strata, sweeps)
    assert "\n" not in str(caught.value)


def test_of_many_images_some_are_taken_evenly(errors, strata, sweeps, monkeypatch):
    monkeypatch.setattr(explorer, "IMAGES", 4)
    found = explorer.tabulate("threedpw", errors, strata, sweeps)
    assert found["images"] == ["000.jpg", "003.jpg", "006.jpg", "009.jpg"] and found["total"] == N
    assert len(explorer.errors_in({"sets": {"threedpw": found}})) == 4 * len(SYSTEMS) * len(SEEDS)


def test_two_people_in_one_image_have_the_names_of_the_statistics(errors, tmp_path):
    rows = errors[errors["dataset"] == "threedpw"]
    pd.concat([rows, rows]).to_parquet(tmp_path / "e.parquet")
    one = rows.loc[rows["method"].eq("Ours") & rows["seed"].eq(SEED), ["dataset", "image"]]
    named = stats.named(pd.concat([one, one]))["image"]
    assert named.is_unique and set(named) == set(stats.read_one(tmp_path / "e.parquet")["image"])


def test_kept_meshes_are_evenly_spaced_and_the_worst():
    mpve = np.arange(200.0)
    mpve[[17, 50]] = [999, np.nan]
    kept = explorer.choose(mpve)
    assert len(kept) == explorer.EVENLY + explorer.WORST and kept == sorted(kept)
    assert {0, 199, 17, 50, 198} <= set(kept)
    assert explorer.choose(np.arange(5.0)) == [0, 1, 2, 3, 4]


@given(st.lists(st.floats(-3276, 3276), min_size=1))
def test_stored_lengths_are_off_by_half_a_unit_at_most(lengths):
    back = np.frombuffer(base64.b64decode(explorer.quantised(np.array(lengths))), "<i2")
    assert np.abs(back * explorer.UNIT_MM - lengths).max() <= explorer.UNIT_MM / 2 + 1e-9


def test_what_diverged_stays_in_range():
    text = explorer.quantised(np.array([1e9, -np.inf, np.nan]))
    back = np.frombuffer(base64.b64decode(text), "<i2")
    assert back.tolist() == [32767, -32767, 0]


def picture(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def test_a_heatmaps_tile_peaks_where_the_heatmap_does():
    E = np.random.default_rng(0).random((8, S, S)) * 0.2
    peaks = [(j, 2 * j % S, 3 * j % S) for j in range(8)]
    for j, y, x in peaks:
        E[j, y, x] = 1 + j
    sheet = picture(explorer.heatmap_sheet(E))
    assert sheet.shape == (2 * S, explorer.TILES * S)
    for j, y, x in peaks:
        row, column = divmod(j, explorer.TILES)
        tile = sheet[row * S : (row + 1) * S, column * S : (column + 1) * S]
        assert np.unravel_index(tile.argmax(), tile.shape) == (y, x) and tile.max() == 255


@pytest.mark.parametrize("dataset", SUBJECTS)
def test_meshes_are_rooted_and_true_ones_are_the_splits(made, known, dataset):
    bench, part = made[1][SUBJECTS[dataset]]
    found = known["sets"][dataset]
    rows = np.flatnonzero(part.index["dataset"] == dataset)
    root = bench.mesh.f[PROTOCOLS[bench.subject].root].numpy()
    V = len(bench.mesh.ids)
    assert len(found["thumbs"]) == N and len(found["shown"]) == N
    faces = np.frombuffer(base64.b64decode(found["faces"]), "<u2").reshape(-1, 3)
    assert np.array_equal(faces, bench.mesh.faces.numpy())
    for place, one in found["shown"].items():
        meshes = {
            name: np.frombuffer(base64.b64decode(text), "<i2").reshape(V, 3) * explorer.UNIT_MM
            for name, text in one["meshes"].items()
        }
        assert list(meshes) == [explorer.TRUTH, "Ours", PLUS, explorer.LIFT]
        assert set(one["spread"]) == {"Ours", PLUS}
        truth = part.h_0[rows[int(place)]].numpy() * 1000 * part.scale_m
        assert np.abs(meshes["Truth"] - (truth - root @ truth)).max() < 0.06
        rounded = explorer.UNIT_MM / 2 * np.abs(root).sum()  # of each vertex half a unit
        assert np.abs(root @ meshes["Truth"]).max() < rounded + 1e-3
        J = bench.mesh.f.shape[0]
        assert len(found["joints"]) == J == len(one["joints"]["Truth"])
        assert picture(one["crop"]).shape == (explorer.PICTURE_PX, explorer.PICTURE_PX, 3)


# --- the page as text ----------------------------------------------------------------------------

VOID = {"meta", "img", "br", "input", "link"}


class Markup(HTMLParser):
    """Checks nesting; collects ids and the controls that no label speaks for."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.ids, self.silent, self.controls = [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids += [attrs["id"]] if "id" in attrs else []
        if tag in ("select", "input"):
            self.controls += 1
            if "label" not in self.open:
                self.silent.append(attrs)
        if tag == "canvas" and not attrs.get("aria-label"):
            self.silent.append(attrs)
        if tag == "img" and not attrs.get("alt"):
            self.silent.append(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_every_control_has_a_label(page):
    seen = Markup(page.read_text())
    assert not seen.open and not seen.silent and seen.controls >= 16
    assert len(seen.ids) == len(set(seen.ids))
    asked = set(re.findall(r'\$\("([\w-]+)"\)', page.read_text()))
    assert asked <= set(seen.ids)


def test_the_page_names_no_host_says_synthetic_and_is_small(page):
    text = page.read_text()
    assert "://" not in text and "default-src 'none'" in text
    assert "Every number here is <em>synthetic</em>" in text
    assert "<summary>Claims</summary>\n<p>DAT <em>holds</em></p></details>" in text
    assert 10_000 < page.stat().st_size < 15_000_000


def test_a_name_in_the_data_cannot_end_the_script(errors, strata, sweeps, tmp_path):
    evil = {"000.jpg": "</script><b>x"}
    frames = [frame.replace({"image": evil}) for frame in (errors, strata, sweeps)]
    sets = {"threedpw": explorer.tabulate("threedpw", *frames)}
    out = explorer.write(explorer.gather(sets, params.load()), [], tmp_path / "x.html")
    assert "</script><b>" not in out.read_text()
    assert evil["000.jpg"] in explorer.read(out)["sets"]["threedpw"]["images"]


def test_the_same_data_gives_the_same_bytes_and_too_much_of_it_nothing(
    known, page, tmp_path, monkeypatch
):
    again = explorer.write(known, SHEETS, tmp_path / "a.html")
    assert again.read_bytes() == page.read_bytes()
    monkeypatch.setattr(explorer, "LIMIT_BYTES", 1000)
    with pytest.raises(ValueError, match=r"b\.html: .* MB, over 0.001; lower IMAGES"):
        explorer.write(known, SHEETS, tmp_path / "b.html")
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]


def test_tables_and_claims_are_in_the_page_as_the_report_has_them(tmp_path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "claims.md").write_text("# Claims\n\nA <b> *holds*.\n")
    for number in (6, 2, 1, 3, 5, 4):
        text = f"### Table {number}. T\n\n| a |\n| :-- |\n| {number}.5 |\n"
        (tmp_path / f"tables/table{number}.md").write_text(text)
    sheets = explorer.reported(tmp_path)
    titles = [title for title, _ in sheets]
    assert titles == ["Claims", *(f"Table {number}. T" for number in range(1, 7))]
    assert "<em>holds</em>" in sheets[0][1] and "<b>" not in sheets[0][1]
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", body) for _, body in sheets[1:]]
    assert cells == [[f"{number}.5"] for number in range(1, 7)]
    (tmp_path / "tables/table4.md").unlink()
    with pytest.raises(FileNotFoundError, match="claims or tables missing; run `dvc repro report`"):
        explorer.reported(tmp_path)


def test_a_page_without_data_is_one_clear_line(tmp_path):
    (tmp_path / "x.html").write_text("<p>x")
    with pytest.raises(ValueError, match=r"x\.html: holds no data"):
        explorer.read(tmp_path / "x.html")


def luminance(colour: str) -> float:
    """WCAG's relative luminance of #rrggbb."""
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(c <= 0.03928, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("ground", ["#ffffff", "#fdf3ec", "#eef4fb", "#f3f5f6"])
def test_texts_have_the_contrast_of_level_aa(ground):
    for name in ("ink", "soft", "link"):
        colour = re.search(rf"--{name}: (#\w{{6}})", explorer.asset("style.css"))[1]
        assert (luminance(ground) + 0.05) / (luminance(colour) + 0.05) >= 4.5


def test_the_front_page_links_the_explorer_once(page):
    (page.parent / "claims.md").write_text("# Claims\n")
    text = front_page.write_index(page.parent).read_text()
    assert text.count('href="explorer.html"') == 1
    (page.parent / "claims.md").unlink()


# --- its scripts ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tab(page):
    """A browser with the page open at the width of a desk."""
    if not program():
        pytest.skip("no Chromium here: name one in HMDIFF_BROWSER")
    with browser(program()) as tab:
        tab.open(page)
        yield tab


@pytest.fixture(scope="module")
def js(page, request):
    """Evaluates an expression over numbers.js and the page's `data`, in node or in the browser."""
    node = shutil.which("node")
    if not node and not program():
        pytest.skip("neither node nor a Chromium here")
    if not node:
        return request.getfixturevalue("tab").run
    data = page.with_suffix(".json")
    data.write_text(json.dumps(explorer.read(page)))
    head = explorer.asset("numbers.js")
    head += f"const data = JSON.parse(require('fs').readFileSync('{data}'));\n"

    def run(code: str):
        text = f"{head}process.stdout.write(JSON.stringify({code}));"
        made = subprocess.run([node, "-"], input=text, capture_output=True, text=True, check=True)
        return json.loads(made.stdout)

    return run


@pytest.mark.parametrize("n", [1, 2, 7, 150, 1000])
def test_the_scripts_draws_are_numpys(js, known, n):
    generator = np.random.default_rng(0)
    truth = np.stack([generator.integers(n, size=n) for _ in range(20)])
    assert js(f"[...draws({n}, {{...data, resamples: 20}})]") == truth.ravel().tolist()


@pytest.mark.parametrize("seed", ["all", str(SEED)])
def test_the_scripts_intervals_are_those_of_the_statistics(js, errors, known, seed):
    rows = errors[errors["dataset"] == "freihand"]
    rows = rows if seed == "all" else rows[rows["seed"] == int(seed)]
    settings = params.load().stats
    assert known["resamples"] == settings.bootstrap
    drawn = stats.resample_metric(rows, "PA_MPJPE", settings)
    strata = "{visibility: 'all', facing: 'all', U: 'all'}"
    choice = f"{{a: 'Ours', b: 'Mean of U', metric: 'PA_MPJPE', seed: '{seed}', strata: {strata}}}"
    found = js(f"(({{A, B, D}}) => [A, B, D])(compare(data.sets.freihand, {choice}, data))")
    truth = (*map(drawn.interval, ("Ours", "Mean of U")), drawn.difference("Ours", "Mean of U"))
    for one, true in zip(found, truth, strict=True):
        ends = [true.mean, true.low, true.high]
        assert np.allclose([one["mean"], one["low"], one["high"]], ends, rtol=1e-9, atol=1e-9)
        assert one["n"] == true.images == N


def test_the_scripts_filters_and_strata_are_pandas(js, errors, strata):
    wide = stats.by_image(errors[errors["dataset"] == "threedpw"], "MPJPE")
    of = strata[strata["dataset"] == "threedpw"].set_index("image").loc[wide.index]
    combinations = list(itertools.product(*(["all", *names] for names in KINDS.values())))
    wanted = [dict(zip(KINDS, names, strict=True)) for names in combinations]
    code = f"{json.dumps(wanted)}.map((s) => left(data.sets.threedpw, s, data))"
    for chosen, images in zip(wanted, js(code), strict=True):
        keep = np.all([(of[k] == v) | (v == "all") for k, v in chosen.items()], axis=0)
        assert images == np.flatnonzero(keep).tolist()
    choice = {"a": "Ours", "b": PLUS, "metric": "MPJPE", "seed": "all", "strata": wanted[0]}
    found = js(f"compare(data.sets.threedpw, {json.dumps(choice)}, data).strata")
    gaps = wide["Ours"] - wide[PLUS]
    truth = {(kind, name): gaps[of[kind] == name] for kind in KINDS for name in of[kind].unique()}
    assert {(one["kind"], one["name"]) for one in found} == set(truth)
    for one in found:
        group = truth[one["kind"], one["name"]]
        assert one["n"] == len(group) and one["mean"] == pytest.approx(group.mean())


def test_an_image_that_diverged_is_left_out_and_counted(js):
    choice = "{a: 'Ours', b: 'Image Feature', metric: 'MPJPE', seed: 'all', strata: {}}"
    found = js(f"compare(data.sets.human36m, {choice}, data)")
    assert len(found["images"]) == N and len(found["both"]) == N - 1 == found["D"]["n"]


def test_the_csv_holds_the_filtered_rows_to_the_last_digit(js, errors, strata):
    choice = {
        "set": "threedpw", "a": "Ours", "b": PLUS, "metric": "MPVE", "seed": "all",
        "strata": {"visibility": "visible", "facing": "all", "U": "all"},
    }  # fmt: skip
    text = js(f"csv(data.sets.threedpw, {json.dumps(choice)}, data)")
    found = pd.read_csv(io.StringIO(text))
    assert (found["made"] == "synthetic").all()
    rows = errors.merge(strata, on=["dataset", "image"])
    rows = rows[(rows["dataset"] == "threedpw") & (rows["visibility"] == "visible")]
    rows = rows[rows["method"].isin(["Ours", PLUS])].set_index(KEYS).sort_index()
    found = found.set_index(KEYS).sort_index()
    assert len(rows) and found.index.equals(rows.index)
    assert found[["MPVE", "PA_MPJPE"]].astype("float32").equals(rows[["MPVE", "PA_MPJPE"]])
    words = ["facing", "U", "steps"]
    assert found[words].astype(str).equals(rows[words].astype(str))


def test_the_scripts_turn_is_that_of_the_pictures(js):
    points = np.random.default_rng(1).normal(size=(5, 3))
    found = js(f"[...turned({points.ravel().tolist()}, 0.7, 0)]")
    away = View(extent=1.0, turn_deg=np.degrees(0.7)).see(points) - View(1.0).see(np.zeros(3))
    assert np.allclose(np.reshape(found, (5, 3)), away)
    tilted = np.reshape(js(f"[...turned({points.ravel().tolist()}, 0.7, 0.4)]"), (5, 3))
    assert np.allclose(np.linalg.norm(tilted, axis=1), np.linalg.norm(points, axis=1))


def test_a_mesh_fits_its_picture_however_it_is_turned(js):
    points = np.random.default_rng(3).normal([5, 0, -2], size=(9, 3))
    found = js(f"ball(Float64Array.from({points.ravel().tolist()}))")
    middle = (points.min(0) + points.max(0)) / 2
    assert np.allclose(found["centre"], middle)
    assert found["reach"] == pytest.approx(np.linalg.norm(points - middle, axis=1).max())


def test_vertex_errors_are_distances(js):
    a, b = np.random.default_rng(2).normal(size=(2, 6, 3))
    found = js(f"[...vertexErrors({a.ravel().tolist()}, {b.ravel().tolist()})]")
    assert np.allclose(found, np.linalg.norm(a - b, axis=1))


# --- the page in a browser -----------------------------------------------------------------------


def choose(tab, **values: str) -> None:
    """Set controls as a user does."""
    for name, value in values.items():
        tab.run(f"$('{name}').value = '{value}'")
        tab.run(f"$('{name}').dispatchEvent(new Event('change', {{bubbles: true}}))")


def test_it_opens_without_complaints_or_requests(tab, page):
    tab.open(page)
    assert tab.run("document.title") == "HMDiff: explorer of the errors"
    assert tab.run("document.querySelectorAll('#scatter circle').length") == N
    assert tab.run("document.querySelectorAll('#thumbs button').length") == N
    assert not tab.problems and set(tab.requests) == {page.resolve().as_uri()}


def test_filters_change_the_count_and_the_means_to_the_right_numbers(tab, page, errors, strata):
    tab.open(page)
    of = strata[strata["dataset"] == "threedpw"].set_index("image")
    for name in KINDS["visibility"]:
        choose(tab, visibility=name, metric="MPJPE")
        images = of.index[of["visibility"] == name].sort_values()
        assert tab.run("$('count').textContent") == f"{len(images)} of {N} images left"
        wide = stats.by_image(errors[errors["dataset"] == "threedpw"], "MPJPE").loc[images]
        if len(images):
            drawn = stats.resample(wide, 2000, 0.95).difference("Ours", "Image Feature")
            last = "[...document.querySelectorAll('#means tr:last-child td')]"
            cells = tab.run(f"{last}.map((cell) => cell.textContent)")
            ends = f"{drawn.low:.1f} to {drawn.high:.1f}".replace("-", "−")
            assert cells == [str(len(images)), f"{drawn.mean:.1f}".replace("-", "−"), ends]
    tab.run("$('reset').click()")
    assert tab.run("$('count').textContent") == f"{N} of {N} images left"


def test_another_set_offers_what_it_has(tab, page):
    tab.open(page)
    assert not tab.run("[...$('metric').options].some((o) => o.value === 'F5')")
    choose(tab, visibility="occluded", facing="side", set="freihand")
    assert tab.run("$('facing').disabled && $('facing').value === 'all'")
    assert tab.run("[...$('metric').options].some((o) => o.value === 'F5')")
    choose(tab, a="Mean of U", metric="MPVE")
    assert "without a value of both" in tab.run("$('count').textContent")
    assert "Nothing to draw" in tab.run("$('histogram').textContent")
    assert not tab.problems


def test_the_worst_image_comes_first_and_opens(tab, page, errors):
    tab.open(page)
    choose(tab, rank="b", order="largest")
    wide = stats.by_image(errors[errors["dataset"] == "threedpw"], "MPVE")["Image Feature"]
    tab.run("document.querySelector('#thumbs button').click()")
    assert tab.run("$('title').textContent") == wide.idxmax()
    assert tab.run("document.querySelector('#thumbs button').ariaPressed") == "true"
    choose(tab, order="smallest")
    tab.run("document.querySelector('#thumbs button').click()")
    assert tab.run("$('title').textContent") == wide.idxmin()


def test_arrow_keys_turn_the_mesh_and_colours_change_it(tab, page):
    tab.open(page)
    looks = [tab.run("$('solid').toDataURL()")]
    tab.run("$('solid').focus()")
    for _ in range(3):
        tab.key("ArrowRight")
    assert tab.run("$('turn').value") == "30"
    looks.append(tab.run("$('solid').toDataURL()"))
    for name, value in {"colour": "spread", "mesh": "Truth"}.items():
        choose(tab, **{name: value})
        looks.append(tab.run("$('solid').toDataURL()"))
    tab.run("$('wire').click()")
    assert len(set(looks)) == 4 and not tab.problems
    before = tab.run("$('heat').toDataURL()")
    choose(tab, joint="head")
    tab.run("new Promise((done) => setTimeout(done, 100))")
    assert tab.run("$('heat').toDataURL()") != before


def test_a_dragging_hand_turns_the_mesh(tab, page):
    tab.open(page)
    tab.run("$('solid').scrollIntoView({block: 'center'})")
    x, y = tab.run("(({x, y}) => [x + 100, y + 100])($('solid').getBoundingClientRect())")
    tab.drag((x, y), (x + 40, y - 20))
    assert tab.run("[Number($('turn').value), Number($('tilt').value)]") == [20, 10]


def test_it_fits_a_telephone(tab, page):
    tab.open(page, width=360, height=640)
    assert tab.run("document.documentElement.scrollWidth") <= 360
    controls = "[...document.querySelectorAll('select, button')].map((c) => c.offsetHeight)"
    assert tab.run(f"Math.min(...{controls}.filter(Boolean))") >= 44
