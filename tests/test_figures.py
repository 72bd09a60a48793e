"""Figures say what their data says, weigh little, and come out the same twice; so the index."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import trimesh
from frames import errors_frame
from PIL import Image

from hmdiff import params, viewer
from hmdiff.metrics import METRICS
from hmdiff.recovery.photo import Recovery, assumed_camera
from hmdiff.report import figures, front_page, gallery
from hmdiff.report.canvas import LIMIT_BYTES
from hmdiff.viewer import dress

PARAMS = params.load(Path(__file__).parents[1] / "params.yaml")
IMAGES, STEPS = 40, (5, 10, 20)
BEST = {"Ours": 10, "Image Feature": 20}


@pytest.fixture
def sweeps() -> pd.DataFrame:
    """Errors whose best settings are known: Ours at 10 steps with 60 mm, the other 75 at 20."""
    rng = np.random.default_rng(0)
    frames = []
    for method, base in (("Ours", 60.0), ("Image Feature", 75.0)):
        for value in STEPS:
            error = base + abs(value - BEST[method]) + rng.normal(0, 8, IMAGES)
            error += base + abs(value - BEST[method]) - error.mean()
            frames.append(grid(method, "steps", value, error))
    for value, error in ((0.1, 70.0), (0.2, 60.0), (5.0, 55.0)):
        frame = grid("Ours", "gamma", value, np.full(IMAGES, error))
        frames.append(frame.assign(diverged=0.25 if value == 5.0 else 0.0))
    return pd.concat(frames, ignore_index=True)


def grid(method: str, knob: str, value: float, error: np.ndarray) -> pd.DataFrame:
    names = [f"{i}.jpg" for i in range(len(error))]
    frame = pd.DataFrame({"image": names, "MPVE": error.astype(np.float32)})
    fixed = {"method": method, "knob": knob, "value": float(value), "subject": "body", "seed": 0}
    return frame.assign(diverged=0.0, **fixed)


def ball(radius: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    mesh = trimesh.creation.icosphere(subdivisions=2, radius=radius)
    return np.asarray(mesh.vertices), np.asarray(mesh.faces)


def noise(height: int, width: int) -> np.ndarray:
    """The picture that compresses worst."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


class Ball:
    """What the figures need of a body model."""

    faces = torch.from_numpy(ball()[1])
    parts = torch.zeros(len(ball()[0]), dtype=torch.uint8)


def recovery(image: np.ndarray) -> tuple[Recovery, np.ndarray]:
    vertices, faces = ball()
    hypotheses = np.stack([vertices * s for s in (0.9, 1.0, 1.1)])
    spread = 1000 * np.linalg.norm(vertices, axis=1) * np.sqrt(0.02 / 3)
    K = assumed_camera(*image.shape[:2])
    found = Recovery(vertices, hypotheses, spread, np.array([0, 0, 2.0]), K, (10, 10, 60, 60))
    return found, faces


def test_the_finding_about_steps_names_the_best_method_and_setting(sweeps, tmp_path):
    finding = figures.error_against_knob(sweeps, "steps", PARAMS, tmp_path / "steps.png")
    assert "Ours is best at steps = 10, with 60.0 mm MPVE" in finding
    assert "Image Feature with 75.0 mm at 20" in finding
    with Image.open(tmp_path / "steps.png") as image:
        assert image.info["Title"] == finding
        assert "Software" not in image.info


def test_a_setting_that_diverged_is_never_the_best(sweeps, tmp_path):
    finding = figures.error_against_knob(sweeps, "gamma", PARAMS, tmp_path / "gamma.png")
    assert "best at gamma = 0.2, with 60.0 mm" in finding
    assert "70.0 mm at 0.1" in finding
    assert "diverged: Ours at 5" in finding
    only = sweeps[sweeps["value"] == 5.0]
    only = only[only["knob"] == "gamma"]
    assert "every gamma tried diverged" in figures.error_against_knob(
        only, "gamma", PARAMS, tmp_path / "lost.png"
    )


def test_where_no_setting_is_worse_the_finding_says_so(sweeps, tmp_path):
    gamma = sweeps[(sweeps["knob"] == "gamma") & (sweeps["value"] == 0.2)]
    alike = pd.concat([gamma, gamma.assign(value=0.3)])
    finding = figures.error_against_knob(alike, "gamma", PARAMS, tmp_path / "alike.png")
    assert "60.0 mm MPVE; no other is worse" in finding
    finding = figures.error_against_knob(gamma, "gamma", PARAMS, tmp_path / "one.png")
    assert finding.endswith("60.0 mm MPVE")


def test_bands_of_many_settings_are_those_of_errors_within_images(sweeps):
    """However hard images are, the bands are those of what is left: here noise alike everywhere."""
    rows = sweeps[sweeps["knob"] == "steps"].assign(value=lambda f: f["value"].astype(float))
    hard = rows["image"].map({f"{i}.jpg": 40.0 * i for i in range(IMAGES)})
    found = figures.swept(rows.assign(MPVE=rows["MPVE"] + hard), "Ours", "steps", "MPVE")
    own = rows[(rows["method"] == "Ours") & (rows["value"] == 10)]["MPVE"].to_numpy()
    half = 1.96 * 8 / np.sqrt(IMAGES)  # the noise of the fixture
    assert found[10.0].mean == pytest.approx(own.mean() + 20 * (IMAGES - 1), abs=1e-3)
    assert found[10.0].high - found[10.0].low == pytest.approx(2 * half, rel=0.2)


def test_the_band_of_one_setting_is_the_normal_theory_interval_of_the_mean(sweeps):
    rows = sweeps[(sweeps["method"] == "Ours") & (sweeps["value"] == 10)]
    found, values = figures.swept(rows, "Ours", "steps", "MPVE"), rows["MPVE"].to_numpy()
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    assert found[10.0].mean == pytest.approx(values.mean(), abs=1e-3)
    assert found[10.0].high - found[10.0].low == pytest.approx(2 * half, rel=0.15)


def test_a_setting_that_diverged_widens_no_other_band(sweeps):
    rows = sweeps[sweeps["knob"] == "steps"]
    lost = rows[(rows["method"] == "Ours") & (rows["value"] == 5)]
    wild = np.random.default_rng(1).normal(0, 1e4, len(lost))
    lost = lost.assign(value=99.0, diverged=0.5, MPVE=wild)
    both = figures.swept(pd.concat([rows, lost]), "Ours", "steps", "MPVE")
    assert both[10.0] == figures.swept(rows, "Ours", "steps", "MPVE")[10.0]


def test_an_unknown_knob_is_one_clear_line(sweeps, tmp_path):
    with pytest.raises(ValueError, match="no method was swept over 'k_start'"):
        figures.error_against_knob(sweeps, "k_start", PARAMS, tmp_path / "x.png")


def test_the_relative_gap_counts_chains_that_stay_on_and_ignores_what_is_not_measured(tmp_path):
    R = np.array([[1.0] * 4, [0.5, 0.4, 0.3, 0.01], [0.2, 0.02, 0.03, np.nan]])
    active = np.array([[1] * 4, [1, 1, 1, 0], [1, 0, 0, 0]], bool)
    finding = figures.relative_gap(R, active, "hand", tmp_path / "gap.png", [200, 100, 50], 0.05)
    assert "median of 0.03" in finding
    assert "half are switched off by k = 50" in finding
    assert "25% of chains are guided to the end" in finding
    never = figures.relative_gap(R[:2], active[:2], "hand", tmp_path / "gap.png", [200, 100], 0.05)
    assert "most stay on" in never


def history(loss: np.ndarray) -> pd.DataFrame:
    """As `train.fit` returns it: here training and validation alike, seen at every fifth row."""
    step = 20 * np.arange(1, len(loss) + 1)
    seen = np.where(step % 100 == 0, loss, np.nan)
    frame = pd.DataFrame({"step": step, "loss": loss, "val_loss": seen, "lr": 0.001})
    return frame.assign(kept=frame.index == frame["val_loss"].idxmin())


def test_loss_curves_tell_what_still_falls(tmp_path):
    falling, flat = history(2.0 * 0.97 ** np.arange(100)), history(np.full(100, 0.5))
    curves, out = {"image": [falling, falling], "both": [flat]}, tmp_path / "losses.png"
    finding = figures.loss_curves(curves, "body", out)
    assert f"validation loss of image falls most, by {1 - 0.97**10:.1%}" in finding
    assert finding.endswith(f"kept: image {2 * 0.97**99:.3g}, both 0.5")
    short = figures.loss_curves({"both": [flat.head(5)]}, "body", out)
    assert short == "body: too short for a trend; kept: both 0.5"


def test_differences_say_whom_ours_beats_and_who_beats_it(tmp_path):
    def values(dataset, method, key):
        hard = 100 + 10 * np.random.default_rng(0).standard_normal(30)
        offset = {"Ours": 0, "Baseline A": 8, "Ours+": -8, "Direct L2": 0}[method]
        own = np.random.default_rng(key[1]).standard_normal(30)
        return dict.fromkeys(METRICS, hard + offset + own)

    names = ("Ours", "Baseline A", "Ours+", "Direct L2")
    errors = errors_frame(values, names, {}, (0, 1), 30)
    finding = figures.differences(errors[errors["subject"] == "body"], PARAMS, tmp_path / "d.png")
    assert finding == (
        "body: on every set Ours is better, told from zero, than 1 of 3 systems; ahead of it on at "
        "least one: Ours+"
    )


def test_calibration_reads_its_finding_off_the_curves(tmp_path):
    nominal = np.linspace(0, 1, 11)
    covered = pd.DataFrame({"a": nominal**2, "b": nominal**2}, index=nominal)
    finding = figures.calibration(covered, "body", tmp_path / "c.png")
    assert "50% regions hold 25%" in finding
    assert "90% regions 81%" in finding


def test_the_overlay_changes_the_image_only_under_the_mesh():
    image = noise(120, 160)
    found, faces = recovery(image)
    laid = viewer.overlay(image, found.vertices_m + found.translation, faces, found.K)
    changed = (laid != image).any(-1)
    rows, columns = np.nonzero(changed)
    radius = found.K[0, 0] * 0.3 / np.sqrt(4 - 0.09)
    assert changed.sum() == pytest.approx(np.pi * radius**2, rel=0.05)
    assert columns.mean() == pytest.approx(79.5, abs=0.5)
    assert rows.mean() == pytest.approx(59.5, abs=0.5)


def test_a_side_view_shows_depth():
    vertices, faces = ball()
    flat, thick = (
        (viewer.side_view(vertices * [1, 1, depth], faces, 64) != 244).any(-1).sum()
        for depth in (0.05, 1.0)
    )
    assert flat < 0.2 * thick


def test_figures_are_light_and_the_same_twice_even_of_noise(tmp_path):
    found, faces = recovery(noise(224, 224))
    row = gallery.Row(
        image=noise(224, 224),
        vertices_m=found.vertices_m,
        faces=faces,
        colour=dress(Ball.parts),
        K=found.K,
        translation=found.translation,
        error_mm=80.0,
        label="body",
    )
    paths = [tmp_path / name for name in ("a.png", "b.png")]
    findings = {gallery.figure2([row] * 2, PARAMS, path) for path in paths}
    assert findings == {
        "From easy to hard, Ours misses the vertices by 80 to 80 mm (synthetic test images)"
    }
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].stat().st_size <= LIMIT_BYTES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_the_photo_figure_says_that_it_is_out_of_domain(tmp_path):
    image = noise(200, 150)
    found, _ = recovery(image)
    finding = gallery.photo_figure(image, found, Ball(), PARAMS, tmp_path / "photo.png")
    assert finding.startswith("Out of domain (trained on synthetic images): 3 hypotheses")
    assert f"{np.median(found.spread_mm):.0f} mm in the median" in finding
    assert (tmp_path / "photo.png").stat().st_size <= LIMIT_BYTES


class Page(HTMLParser):
    """Links, pictures and tags of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.links, self.images, self.open, self.tags = [], [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.add(tag)
        if tag not in ("meta", "img", "br", "hr"):
            self.open.append(tag)
        if tag == "a":
            self.links.append(attrs["href"])
        if tag == "img":
            self.images.append(attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def reports(sweeps, tmp_path) -> Path:
    figures.error_against_knob(sweeps, "steps", PARAMS, tmp_path / "figures" / "steps.png")
    for folder in ("tables", "notebooks"):
        (tmp_path / folder).mkdir()
    table = "### Table {n}\n\n| Method | MPVE |\n| :-- | --: |\n| a <b> & c | 1 |\n\n- note {n}\n"
    for n in (10, 2):
        (tmp_path / "tables" / f"table{n}.md").write_text(table.format(n=n))
    (tmp_path / "tables" / "table2.csv").write_text("Method,MPVE\n")
    (tmp_path / "notebooks" / "train-body-0.html").write_text("<p>x")
    (tmp_path / "claims.md").write_text("# Claims\n\n12 hold.<script>alert(1)</script>\n")
    return tmp_path


def test_every_relative_link_of_the_index_leads_to_a_file(reports):
    page = Page(front_page.write_index(reports).read_text())
    files = [link for link in page.links if not link.startswith("#")]
    assert {"tables/table2.csv", "notebooks/train-body-0.html", "claims.md"} <= set(files)
    assert all((reports / file).is_file() for file in files)
    assert not page.open
    assert "script" not in page.tags
    assert page.images[0]["src"] == "figures/steps.png"
    assert "Ours is best" in page.images[0]["alt"]


def test_the_index_escapes_text_keeps_the_order_and_is_the_same_twice(reports):
    text = front_page.write_index(reports).read_text()
    assert "a &lt;b&gt; &amp; c" in text
    assert "&lt;script&gt;" in text
    assert text.index("Table 2") < text.index("Table 10")
    assert front_page.write_index(reports).read_text() == text


def test_an_empty_folder_and_a_damaged_figure_are_one_clear_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="no tables, figures or notebooks"):
        front_page.write_index(tmp_path)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "a.png").write_bytes(b"no png")
    with pytest.raises(ValueError, match=r"a\.png: damaged figure"):
        front_page.write_index(tmp_path)
