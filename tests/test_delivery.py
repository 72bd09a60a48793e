"""A delivery is whole or not there, agrees with the answer in every file, and asks no network."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import skimage.data
import trimesh
from PIL import Image

from hmdiff import viewer
from hmdiff.recovery import api, bundle, delivery, page
from hmdiff.viewer import dress

BOX = (20, 0, 400, 512)
NAME = '<script>alert("x")</script> & co.jpg'


@pytest.fixture(scope="module", params=["body", "hand"])
def answer(request, weights):
    system = bundle.load(weights, request.param)
    return api.answer(skimage.data.astronaut(), BOX, system, samples=3, seed=5)


@pytest.fixture(scope="module")
def folder(answer, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "astronaut"
    delivery.deliver(answer, NAME, False, out)
    return out


def test_the_folder_holds_every_file_and_nothing_else(folder):
    assert {path.name for path in folder.iterdir()} == delivery.FILES
    assert [path.name for path in folder.parent.iterdir()] == ["astronaut"]


def test_pictures_have_their_sizes_and_show_the_mesh(folder, answer):
    overlay = np.asarray(Image.open(folder / "overlay.png"))
    assert overlay.shape == answer.picture.shape
    assert (overlay != answer.picture).any()
    for name in ("side", "top"):
        picture = np.asarray(Image.open(folder / f"{name}.png"))
        assert picture.shape == (640, 640, 3)
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_an_overlay_in_strips_is_the_overlay_in_one(answer, monkeypatch):
    whole = delivery.overlay(answer)
    found, model = answer.found, answer.model
    placed = found.vertices_m + found.translation
    colour = dress(model.parts.numpy())
    expected = viewer.overlay(answer.picture, placed, model.faces.numpy(), found.K, colour)
    assert (whole == expected).all()
    monkeypatch.setattr(delivery, "PIXELS_AT_ONCE", 512 * 100)
    strips = delivery.overlay(answer).astype(int)
    assert strips.shape == whole.shape
    assert (np.abs(strips - whole).max(axis=-1) > 40).mean() < 0.03  # edges, less smooth


def test_the_view_from_above_shows_the_nearer_at_the_bottom_and_the_upper_in_front():
    near, far = trimesh.creation.box(extents=[0.2] * 3), trimesh.creation.box(extents=[0.2] * 3)
    near.apply_translation([0, 0, -1]), far.apply_translation([0, 0, 1])
    high, low = trimesh.creation.box(extents=[0.2] * 3), trimesh.creation.box(extents=[0.4] * 3)
    high.apply_translation([0, -1, 0]), low.apply_translation([0, 1, 0])
    parts = [near, far, high, low]
    mesh = trimesh.util.concatenate(parts)
    colour = np.repeat([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], 8, axis=0).astype(float)
    picture = delivery.top_view(np.array(mesh.vertices), np.array(mesh.faces), 200, colour)
    rows = [np.nonzero((picture[..., c] > 90) & (np.delete(picture, c, 2) < 9).all(-1))[0]
            for c in range(3)]  # fmt: skip
    assert rows[0].mean() > 150 and rows[1].mean() < 50
    assert rows[2].mean() == pytest.approx(100, abs=3)  # the blue one hides the yellow one below


@pytest.mark.parametrize("ending", ["glb", "obj", "ply"])
def test_meshes_are_the_answer_in_metres_coloured_by_uncertainty(folder, answer, ending):
    mesh = trimesh.load_mesh(folder / f"mesh.{ending}", process=False)
    expected = answer.found.vertices_m * [1, -1, -1]
    assert np.array(mesh.vertices) == pytest.approx(expected, abs=1e-5)
    assert (np.array(mesh.faces) == answer.model.faces.numpy()).all()
    order = np.argsort(answer.spread_mm)
    brightness = mesh.visual.vertex_colors[:, 1].astype(int)[order]  # viridis' green only rises
    assert (np.diff(brightness) >= 0).all() and brightness[0] < brightness[-1]


def test_the_npz_holds_all_hypotheses(folder, answer):
    with np.load(folder / "hypotheses.npz", allow_pickle=False) as file:
        assert file["hypotheses_m"] == pytest.approx(answer.found.hypotheses_m, abs=1e-6)
        assert file["vertices_m"] == pytest.approx(answer.found.vertices_m, abs=1e-6)
        assert file["spread_mm"] == pytest.approx(answer.spread_mm, rel=1e-5)
        assert file["translation_m"].tolist() == answer.found.translation.tolist()
        assert file["faces"].max() == len(file["vertices_m"]) - 1


SCHEMA = {
    "picture": str, "width_px": int, "height_px": int, "subject": str, "box_px": list,
    "box_given": bool, "warning": str, "focal_length_px": float, "focal_length_assumed": bool,
    "principal_point_px": list, "axes": str, "mesh_axes": str, "root_m": list, "hypotheses": int,
    "seed": int, "spread_median_mm": float, "spread_brightest_mm": float, "joints": list,
}  # fmt: skip


def test_joints_json_has_its_schema_and_agrees_with_itself(folder, answer):
    facts = json.loads((folder / "joints.json").read_text())
    assert {key: type(value) for key, value in facts.items()} == SCHEMA
    assert facts["hypotheses"] == 3 and facts["seed"] == 5 and not facts["box_given"]
    assert "synthetic" in facts["warning"] and facts["focal_length_assumed"]
    assert len(facts["joints"]) == {"body": 24, "hand": 21}[answer.model.subject]
    middle = np.array([facts["width_px"], facts["height_px"]]) / 2
    assert facts["principal_point_px"] == middle.tolist()
    for joint in facts["joints"]:
        assert set(joint) == {"name", "position_m", "pixel", "spread_mm"}
        x, y, z = np.add(joint["position_m"], facts["root_m"])
        pixel = facts["focal_length_px"] * np.array([x, y]) / z + middle
        assert joint["pixel"] == pytest.approx(pixel, abs=1.5)
        assert joint["spread_mm"] >= 0


class Tags(HTMLParser):
    """What a page consists of: tags with attributes, scripts, and the text that is read."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.scripts, self.text, self.inside = [], [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts.append(data)
        elif not self.inside:
            self.text += data


@pytest.fixture(scope="module")
def tags(folder) -> Tags:
    return Tags((folder / "index.html").read_text())


def test_the_page_loads_nothing_and_may_ask_no_network(tags):
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in tags.tags}
    for _, attributes in tags.tags:
        for name in ("src", "href", "action", "data"):
            assert attributes.get(name, "data:").startswith("data:")
    policy = next(a["content"] for _, a in tags.tags if "http-equiv" in a)
    rules = dict(rule.split(None, 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert not any(re.search(r"https?:|\*", rule) for rule in rules.values())


def test_plotlys_script_is_there_once_and_our_own_names_no_host(tags):
    large = [script for script in tags.scripts if len(script) > 10**6]
    assert len(large) == 1 and "plotly.js v" in large[0]
    own = [script for script in tags.scripts if script is not large[0]]
    assert sum("Plotly.newPlot" in script for script in own) == 1
    assert not any(re.search(r"https?://", script) for script in own)


def test_the_page_says_what_must_be_known(tags):
    text = " ".join(tags.text.split())
    assert page.WARNING in text and "trained on synthetic, rendered images" in text
    assert "focal length is assumed" in text
    assert "No box was given" in text
    assert NAME in text  # shown as text, not run


def test_the_page_frames_the_box_over_the_picture():
    facts = {"box_px": [-20.0, 60.0, 300.0, 480.0], "width_px": 400, "height_px": 600}
    assert page.frame(facts) == "left: -5.00%; top: 10.00%; width: 75.00%; height: 80.00%"


def test_a_page_of_a_given_box_does_not_say_it_was_assumed(answer, tmp_path):
    delivery.deliver(answer, "a.jpg", True, tmp_path / "a")
    assert "No box was given" not in Tags((tmp_path / "a/index.html").read_text()).text


def test_a_failure_leaves_nothing_new_and_nothing_less(answer, tmp_path, monkeypatch):
    delivery.deliver(answer, "first.jpg", True, tmp_path / "a")
    before = (tmp_path / "a/index.html").read_bytes()

    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr(page, "make", fails)
    for name in ("a", "b"):
        with pytest.raises(OSError, match="disk full"):
            delivery.deliver(answer, "first.jpg", True, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a/index.html").read_bytes() == before


def test_the_result_of_another_picture_box_or_subject_is_never_replaced(answer, tmp_path):
    delivery.deliver(answer, "first.jpg", True, tmp_path / "a")
    moved = replace(answer, found=replace(answer.found, box=(1.0, 2.0, 300.0, 400.0)))
    for name, other in (("second.jpg", answer), ("first.jpg", moved)):
        with pytest.raises(ValueError, match="the result of another picture, box or subject"):
            delivery.deliver(other, name, True, tmp_path / "a")
    assert json.loads((tmp_path / "a/joints.json").read_text())["picture"] == "first.jpg"


def test_what_a_user_has_put_beside_the_result_stays(answer, tmp_path):
    """And so do files and folders with the names that temporary ones might have."""
    theirs = ("a/mesh.stl", "a/notes/b.txt", "a.part/c.txt", "a.old/d.txt")
    for round_ in range(2):
        delivery.deliver(answer, "a.jpg", bool(round_), tmp_path / "a")
        for name in theirs:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(name)
    assert {path.name for path in (tmp_path / "a").iterdir()} == delivery.FILES | {
        "mesh.stl",
        "notes",
    }
    assert all((tmp_path / name).read_text() == name for name in theirs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.old", "a.part"]


def test_a_folder_with_files_of_the_same_names_is_not_ours(answer, tmp_path):
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog/mesh.obj").write_text("a dog")
    with pytest.raises(ValueError, match="holds other files"):
        delivery.deliver(answer, "dog.jpg", True, tmp_path / "dog")
    assert (tmp_path / "dog/mesh.obj").read_text() == "a dog"


@pytest.mark.parametrize("content", ["[" * 100_000, "[1, 2]", '{"picture": 1}', "\xff"])
def test_a_folder_whose_joints_json_is_no_delivery_is_not_ours(tmp_path, content):
    (tmp_path / "joints.json").write_text(content, "latin1")
    with pytest.raises(ValueError, match="holds other files"):
        delivery.others(tmp_path, dict.fromkeys(delivery.SAME, 1))


@pytest.mark.parametrize("stretch", [1.0, 4.0])
def test_the_view_from_above_shows_the_whole_mesh(answer, stretch):
    """However tall it is: what is nearer to the camera looks larger."""
    mesh = answer.found.vertices_m * [1, stretch, 1]
    picture = delivery.top_view(mesh, answer.model.faces.numpy(), 200, viewer.CLAY)
    edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    assert (edge == edge[0]).all() and (picture != edge[0]).any()


def test_other_files_are_never_replaced(answer, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "mine", target_is_directory=True)
    for name in ("mine", "file", "link"):
        with pytest.raises(ValueError, match="holds other files"):
            delivery.deliver(answer, "a.jpg", True, tmp_path / name)
    assert (tmp_path / "mine/thesis.tex").read_text() == "years of work"


def test_the_same_answer_gives_the_same_bytes(answer, folder, tmp_path):
    delivery.deliver(answer, NAME, False, tmp_path / "again")
    for name in delivery.FILES:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name
