"""The command line as a user meets it: files appear, failures are one line, exit codes tell."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hmdiff import cli
from hmdiff.recovery import delivery

ROOT = Path(__file__).parents[1]


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Path:
    """A working folder with a good picture and a bad one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    Image.fromarray(skimage.data.astronaut()).save("photos/astronaut.jpg")
    Image.fromarray(skimage.data.camera()).save("photos/camera.png")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    return tmp_path


@pytest.fixture
def hand(weights):
    """`hmdiff recover --subject hand` with few samples; returns the exit code."""

    def run(*arguments: str) -> int:
        common = ("--subject", "hand", "--samples", "2", "--weights", str(weights))
        return cli.main(["recover", *arguments, *common])

    return run


def test_a_folder_of_pictures_gives_a_folder_each(desk, hand, capsys):
    assert hand("photos", "-o", "results") == 0
    out = capsys.readouterr().out
    assert sorted(path.name for path in (desk / "results").iterdir()) == ["astronaut", "camera"]
    for name in ("astronaut", "camera"):
        assert {path.name for path in (desk / "results" / name).iterdir()} == delivery.FILES
        assert f"results/{name}/index.html" in out
    assert out.count("no --box, so the whole picture was taken (0,0,512,512)") == 2


def test_every_box_gives_a_folder(desk, hand, capsys):
    assert hand("photos/camera.png", "--box", "10,20,300,300", "--box", "-5,0.5,200,200") == 0
    assert "no --box" not in capsys.readouterr().out
    for name, box in (("camera-box1", [10, 20, 300, 300]), ("camera-box2", [-5, 0.5, 200, 200])):
        facts = json.loads((desk / "out" / name / "joints.json").read_text())
        assert facts["box_px"] == box and facts["box_given"]
        assert facts["picture"] == "camera.png"


def test_one_bad_picture_is_told_in_one_line_and_the_others_go_on(desk, hand, capsys):
    paths = ("broken.jpg", "nowhere.jpg", "photos/camera.png")
    assert hand(*paths) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("nowhere.jpg: not there") and lines[1].startswith("broken.jpg: ")
    assert [path.name for path in (desk / "out").iterdir()] == ["camera"]


def test_a_box_beside_the_picture_is_told_with_the_pictures_name(desk, hand, capsys):
    assert hand("photos/camera.png", "--box", "900,0,10,10", "--box", "0,0,400,400") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("photos/camera.png: box [900.0") and "less than 16 x 16 pixels" in line
    assert [path.name for path in (desk / "out").iterdir()] == ["camera-box2"]


def test_a_users_folder_of_the_same_name_is_left_alone(desk, hand, capsys):
    assert hand("photos/camera.png", "photos", "-o", ".") == 0
    (desk / "broken").mkdir()
    (desk / "broken/mine.txt").write_text("x")
    Image.fromarray(skimage.data.camera()).save("broken.jpg")
    assert hand("broken.jpg", "-o", ".") == 1
    assert "holds other files" in capsys.readouterr().err
    assert [path.name for path in (desk / "broken").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "name", ["...jpg", "-rf.jpg", "a\\..\\b.jpg", "a\nb.jpg", "ä" * 120 + ".jpg"]
)
def test_odd_file_names_stay_in_the_output_folder(desk, hand, capsys, name):
    Image.fromarray(skimage.data.camera()).save(desk / "photos" / name, "jpeg")
    assert hand(f"photos/{name}") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert sorted(path.name for path in desk.iterdir()) == ["broken.jpg", "out", "photos"]
    (folder,) = (desk / "out").iterdir()
    assert {path.name for path in folder.iterdir()} == delivery.FILES


@given(st.lists(st.tuples(st.text(max_size=80), st.sampled_from([None, 1, 2])), max_size=8))
def test_folder_names_are_single_names_and_differ(wanted):
    taken = set()
    names = [
        cli.folder_name(Path("x") / (text.replace("/", "").replace("\0", "") + "."), number, taken)
        for text, number in wanted
    ]
    for name in names:
        assert Path(name).name == name and len(name.encode()) < 240
        assert not set(name) & set("./\\\0\n") and name[0] not in "-_"
    assert len({name.casefold() for name in names}) == len(names)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ([], "required"),
        (["recovr"], "invalid choice"),
        (["recover"], "required"),
        (["recover", "a.jpg", "--box", "1,2,3"], "'1,2,3' is not x,y,width,height"),
        (["recover", "a.jpg", "--box", "-1,2,3"], "'-1,2,3' is not x,y,width,height"),
        (["recover", ""], "the name is empty"),
        (["recover", "a.jpg", "--samples", "1"], "whole number 2 to 1000"),
        (["recover", "a.jpg", "--seed", "one"], "whole number"),
        (["recover", "a.jpg", "--subject", "cat"], "invalid choice"),
        (["recover", "a.jpg", "--weights", "nowhere"], "nowhere: no released weights there"),
        (["render", "nowhere.glb"], "nowhere.glb: not there"),
        (["render", "broken.jpg"], "broken.jpg: unknown format"),
        (["export", "nowhere.npz", "a.obj"], "nowhere.npz: not there"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line_and_exit_code_1(desk, capsys, arguments, fault):
    try:
        code = cli.main(arguments)
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 1
    assert fault in error and error.count("\n") == 1


def test_a_file_gives_every_picture_its_own_boxes(desk, hand, capsys):
    lines = ["id,picture,x,y,width,height", "1,astronaut.jpg,0,0,300,400"]
    lines += ["2,shots/camera.png,-10,5.5,200,300", "3,camera.png,100,60,250,420"]
    lines += ["4,elsewhere.jpg,0,0,300,300"]
    (desk / "people.csv").write_text("\ufeff" + "\n".join(lines) + "\n")
    Image.fromarray(skimage.data.camera()).save("photos/nobody.png")
    assert hand("photos", "--boxes", "people.csv") == 1
    told = capsys.readouterr()
    assert told.err == "photos/nobody.png: no box in people.csv; add a line\n"
    assert "people.csv: 1 of its pictures were not given (elsewhere.jpg, ...)" in told.out
    found = {
        path.parent.name: json.loads(path.read_text())["box_px"]
        for path in (desk / "out").glob("*/joints.json")
    }
    assert found == {
        "astronaut": [0, 0, 300, 400],
        "camera-box1": [-10, 5.5, 200, 300],
        "camera-box2": [100, 60, 250, 420],
    }


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "no column picture"),
        (b"picture,x,y,width\na.jpg,1,2,3\n", "no column height"),
        (b"picture,x,y,width,height\na.jpg,1,2,3,wide\n", "line 2: 'wide' is no number"),
        (b"picture,x,y,width,height\na.jpg,1,2\n", "line 2: '' is no number"),
        (b"picture,x,y,width,height\n\xff\xfe", "utf-8"),
        (b'picture,x,y,width,height\n"' + b"a" * 200_000, "field larger than field limit"),
    ],
)
def test_a_damaged_file_of_boxes_is_one_line(desk, hand, capsys, content, fault):
    (desk / "people.csv").write_bytes(content)
    assert hand("photos", "--boxes", "people.csv") == 1
    error = capsys.readouterr().err
    assert error.startswith("people.csv: ") and fault in error and error.count("\n") == 1
    assert "picture, x, y, width, height" in error and not (desk / "out").exists()


def test_boxes_of_two_pictures_of_one_name_are_refused(desk, hand, capsys):
    head = "picture,x,y,width,height\n"
    (desk / "people.csv").write_text(f"{head}cam1/1.jpg,0,0,99,99\ncam2/1.jpg,9,9,99,99\n")
    assert hand("photos", "--boxes", "people.csv") == 1
    fault = "names cam1/1.jpg and cam2/1.jpg; recover each folder with a file of its own"
    assert capsys.readouterr().err == f"people.csv: {fault}\n"
    (desk / "people.csv").write_text(f"{head}camera.png,0,0,300,300\n")
    (desk / "more").mkdir()
    Image.fromarray(skimage.data.camera()).save("more/camera.png")
    assert hand("photos", "more", "--boxes", "people.csv") == 1
    fault = "2 of the pictures given are called camera.png; recover their folders one by one"
    assert capsys.readouterr().err == f"people.csv: {fault}\n"
    assert not (desk / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["recover", "photos", "--boxes", "people.csv"], "people.csv"),
        (["recover", "photos"], "photos"),
        (["render", "mesh.glb"], "mesh.glb"),
        (["export", "hypotheses.npz", "mesh.ply"], "hypotheses.npz"),
    ],
)
def test_what_may_not_be_read_is_told_as_that(
    desk, hand, capsys, monkeypatch, weights, arguments, name
):
    """Root may read all, so the system's refusal is played."""
    for file in ("people.csv", "mesh.glb", "hypotheses.npz"):
        (desk / file).write_bytes(b"x")

    def refusing(of):
        def refuse(path, *rest, **more):
            if path.name == name:
                raise PermissionError(13, "Permission denied", str(path))
            return of(path, *rest, **more)

        return refuse

    for method in ("open", "iterdir"):
        monkeypatch.setattr(Path, method, refusing(getattr(Path, method)))
    code = hand(*arguments[1:]) if arguments[0] == "recover" else cli.main(arguments)
    error = capsys.readouterr().err
    assert code == 1 and error.count("\n") == 1 and "-o" not in error
    assert error.startswith(f"{name}: cannot be read (Permission denied); change its permissions")


def test_a_folder_tells_what_it_leaves_out(desk, hand, capsys):
    for name in ("IMG_1.HEIC", "notes.txt", "more/a.jpg", ".hidden"):
        (desk / "photos" / name).parent.mkdir(exist_ok=True)
        (desk / "photos" / name).write_bytes(b"x")
    (desk / "photos/camera.png").rename(desk / "photos/camera.JFIF")
    assert hand("photos") == 0
    first, *pictures = capsys.readouterr().out.splitlines()
    assert first == "photos: left out what is no picture (1 .heic, 1 folder or link, 1 .txt)"
    assert len(pictures) == 2


def test_a_picture_is_not_drawn_over_a_photograph(desk, hand, capsys):
    assert hand("photos/camera.png") == 0
    (desk / "me.png").write_bytes(b"a photograph")
    assert cli.main(["export", "out/camera/hypotheses.npz", "me.stl"]) == 0
    assert cli.main(["render", "me.stl"]) == 1
    assert capsys.readouterr().err == "me.png: there already; name the picture with -o\n"
    assert (desk / "me.png").read_bytes() == b"a photograph"
    assert cli.main(["render", "me.stl", "-o", "mesh.png", "--size", "64"]) == 0
    assert capsys.readouterr().out == "see mesh.png\n"


def test_a_line_that_cannot_be_shown_is_no_failure(desk, weights):
    Image.fromarray(skimage.data.camera()).save(desk / "photos/写真.jpg")
    run = [sys.executable, "-m", "hmdiff", "recover", "photos/写真.jpg", "--subject", "hand"]
    run += ["--samples", "2", "--weights", str(weights)]
    env = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(run, capture_output=True, env=env)
    assert done.returncode == 0 and b"\\u5199" in done.stdout


def test_a_terminated_run_clears_up(desk, weights):
    run = [sys.executable, "-m", "hmdiff", "recover", "photos", "--subject", "hand"]
    run += ["--samples", "2", "--weights", str(weights)] + ["--box", "0,0,400,400"] * 40
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as process:
        process.stdout.readline()  # the first is there, the next is being made
        process.terminate()
        process.communicate()
    assert process.returncode == 130
    assert not [path for path in (desk / "out").iterdir() if path.name.startswith(".")]


def test_an_output_folder_that_is_a_file_is_refused(desk, hand, capsys):
    assert hand("photos/camera.png", "-o", "broken.jpg") == 1
    assert capsys.readouterr().err == "broken.jpg: not a folder; give another with -o\n"


def test_a_mesh_is_rendered_and_exported(desk, hand):
    assert hand("photos/camera.png") == 0
    mesh = desk / "out/camera/mesh.glb"
    assert cli.main(["render", str(mesh), "--size", "200", "-o", "front.png"]) == 0
    assert cli.main(["render", str(mesh), "--size", "200", "-o", "side.png", "--turn", "90"]) == 0
    front, side = (np.asarray(Image.open(desk / f"{name}.png")) for name in ("front", "side"))
    assert front.shape == side.shape == (200, 200, 3)
    assert (front != side).any() and (front != 244).any()
    npz = str(desk / "out/camera/hypotheses.npz")
    assert cli.main(["export", npz, "mesh.ply", "--unit", "mm"]) == 0
    metres = trimesh.load_mesh(mesh, process=False)
    millimetres = trimesh.load_mesh(desk / "mesh.ply", process=False)
    assert millimetres.vertices == pytest.approx(1000 * metres.vertices, abs=1e-2)
    got, expected = (m.visual.vertex_colors.astype(int) for m in (millimetres, metres))
    assert np.abs(got - expected).max() <= 1
    assert cli.main(["export", str(mesh), "mesh.glb", "--unit", "mm"]) == 1
    assert not (desk / "mesh.glb").exists()


def test_a_render_never_overwrites_what_is_no_picture(desk, hand, capsys):
    assert hand("photos/camera.png") == 0
    assert cli.main(["render", "out/camera/mesh.ply", "-o", "out/camera/mesh.glb"]) == 1
    assert "use .png" in capsys.readouterr().err


def test_help_has_examples_and_the_module_is_the_command(desk):
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"hmdiff": "hmdiff.cli:main"}
    command = [sys.executable, "-m", "hmdiff", "recover", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "examples:\n  hmdiff recover photo.jpg --box" in done.stdout
    assert "out of their domain" in done.stdout
