"""Hostile input, by the thousand: valid files damaged at random, cut, or replaced by noise.

Whatever a reader is given, it succeeds or says in one line what is wrong with which file. Nothing
is run, nothing is written but below the folder of the test, and memory stays bounded. The profile
`soak` of hypothesis (`make soak`) tries 100,000 inputs and more, the usual one a few of each kind.
"""

import contextlib
import json
import os
import pickle
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import mix_writers
import numpy as np
import official
import pandas as pd
import pytest
import test_datasets
import torch
import yaml
from conftest import baked
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save
from test_downsampling import entries
from test_downsampling import write as write_downsampling

from hmdiff import (
    body,
    checkpoint,
    cli,
    coarse,
    crops,
    downsampling,
    hrnet,
    imagenet,
    params,
    safe_pickle,
    stats,
    stored,
)
from hmdiff.datasets import index, read
from hmdiff.datasets.json_stream import elements
from hmdiff.datasets.sample import image_size
from hmdiff.recovery import bundle, photo, pictures, surfaces  # fmt: skip

FEW = 12  # inputs of a kind; in `make soak` conftest.SOAK
LONGEST = 1500  # characters of a message
MOST_KB = 1_500_000  # that reading may add to the largest memory so far
RUNS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork")

watched: list[Path] = []  # the one folder that may be written to, while a reader is at work
seen: list[str] = []  # what was done that must not be


def watch(event: str, given: tuple) -> None:
    """Of what Python does, note programs that start and files that are written elsewhere."""
    if watched and event in RUNS:
        seen.append(f"{event} {given}")
    elif watched and event == "open" and isinstance(given[0], str | bytes):
        path = os.path.abspath(os.fsdecode(given[0]))
        writes = given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if given[2] else 0
        if writes and not path.startswith((str(watched[0]), "/dev/", "/proc/")):
            seen.append(f"{path} is written")


sys.addaudithook(watch)


@contextlib.contextmanager
def harmless(folder: Path) -> Iterator[None]:
    """What happens inside ends well or in one line that names a file below the folder."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    watched.append(folder)
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        text = str(error)
        assert "\n" not in text and len(text) < LONGEST, text
        assert str(folder) in text, text
    finally:
        watched.clear()
    assert not seen, seen
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_KB


# How files are spoilt.


@st.composite
def damaged(draw, data: bytes) -> bytes:
    """Noise, or the data cut, or with some spans replaced, doubled or left out."""
    kind = draw(st.sampled_from(("noise", "cut", "spans", "spans", "spans")))
    if kind == "noise":
        return draw(st.binary(max_size=200))
    if kind == "cut":
        return data[: draw(st.integers(0, max(0, len(data) - 1)))]
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        gone = draw(st.integers(0, 8))
        new = draw(
            st.one_of(st.binary(max_size=8), st.just(data[at : at + 64]), st.just(b"\xff" * 8))
        )
        data = data[:at] + new + data[at + gone :]
    return data


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from(
        [10**400, 1e308, -1e308, float("nan"), float("inf"), "", "x", "../../../x", "/etc/passwd",
         "a\0b", "x" * 300, [], {}, [[]], [1, [2]], {"a": 1}, [None], [["x"]], 2**63, "4", "\ud800"]
    ),
)  # fmt: skip


@st.composite
def crooked(draw, tree: object) -> object:
    """Plain data with one part of it replaced, renamed, doubled or left out."""
    if isinstance(tree, dict) and tree and draw(st.integers(0, 6)):
        key = draw(st.sampled_from(sorted(tree, key=str)))
        way = draw(st.sampled_from(("in", "in", "in", "gone", "renamed")))
        others = {name: value for name, value in tree.items() if name != key}
        if way == "gone":
            return others
        if way == "renamed":
            return others | {draw(st.sampled_from(["x", "", "../x"])): tree[key]}
        return tree | {key: draw(crooked(tree[key]))}
    if isinstance(tree, list) and tree and draw(st.integers(0, 6)):
        at = draw(st.integers(0, len(tree) - 1))
        way = draw(st.sampled_from(("in", "in", "in", "gone", "doubled")))
        inner = {"gone": [], "doubled": [tree[at]] * 2}.get(way)
        return tree[:at] + ([draw(crooked(tree[at]))] if inner is None else inner) + tree[at + 1 :]
    return draw(ODD)


def spoilt(name: str, data: bytes) -> st.SearchStrategy[bytes]:
    """Damage to a file; of JSON and YAML also to what it means."""
    ways = [damaged(data)]
    if name.endswith(".json"):
        ways.append(crooked(json.loads(data)).map(lambda tree: json.dumps(tree).encode()))
    if name.endswith(".yaml"):
        ways.append(crooked(yaml.safe_load(data)).map(lambda tree: _yaml(tree)))
    return st.one_of(ways)


def _yaml(tree: object) -> bytes:
    return yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass")


def spoil_and_read(folder: Path, reader: Callable[[], object], share: float = 1.0) -> None:
    """Try a reader of a folder's files on many damaged copies of them, one file at a time."""
    reader()  # of the files as they are
    files = {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    kinds = {path.suffix: path for path in files}  # a file a kind is as good as all
    chosen = st.sampled_from(sorted({*kinds.values(), *list(files)[:6]}))
    soak = settings.get_current_profile_name() == "soak"
    examples = max(3, int(share * (settings.default.max_examples if soak else FEW)))

    @settings(
        max_examples=examples, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(
        chosen.flatmap(
            lambda path: st.tuples(
                st.just(path), spoilt(path.name, files[path]) if files[path] else st.binary()
            )
        )
    )
    def trial(example: tuple[Path, bytes]) -> None:
        path, content = example
        path.write_bytes(content)
        try:
            with harmless(folder):
                reader()
        finally:
            path.write_bytes(files[path])

    trial()


# Data sets, each in its layouts.


def people() -> dict:
    return mix_writers.people_in_camera(2, seed=3)


def make_threedpw(root: Path) -> None:
    test_datasets.write_threedpw(root, "train", "walk_00", 2, seed=1)


def make_human36m(root: Path) -> None:
    for subject in (9, 11):
        test_datasets.write_human36m(root, subject, 2, seed=subject)


def make_freihand(root: Path) -> None:
    test_datasets.write_freihand(root, "evaluation", 1, 1, seed=2)


SETS = {
    "threedpw": ("threedpw", "threedpw", "train", make_threedpw),
    "human36m": ("human36m", "human36m", "test", make_human36m),
    "freihand": ("freihand", "freihand", "test", make_freihand),
    **{
        f"pose2mesh {name}": (
            name, "pose2mesh", "train",
            lambda root, name=name: mix_writers.write_pose2mesh(root, people(), name),
        )
        for name in ("coco", "mpii", "muco", "up3d")
    },
    "tsv": ("coco", "tsv", "train", lambda root: mix_writers.write_tsv(root, people())),
    "spin": (
        "mpii", "spin", "train",
        lambda root: mix_writers.write_spin(root, people(), "mpii", "mpii_train.npz"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", SETS)
def test_a_damaged_data_set(tmp_path, kind):
    dataset, layout, split, make = SETS[kind]
    model = test_datasets.toy_model("hand" if dataset == "freihand" else "body")
    make(tmp_path)

    def reader() -> None:
        for sample in read(dataset, tmp_path, split, model, None, layout):
            assert np.isfinite(sample.box).all()
            assert sample.image.is_relative_to(tmp_path)

    spoil_and_read(tmp_path, reader)


def test_a_damaged_index(tmp_path):
    test_datasets.write_threedpw(tmp_path / "set", "train", "walk_00", 2, seed=1)
    source = index.Source("threedpw", "threedpw", tmp_path / "set")
    (tmp_path / "mix").mkdir()
    path = tmp_path / "mix" / "index.parquet"
    index.build_index([source], path)
    spoil_and_read(path.parent, lambda: list(index.blocks(path)))


# Single files: each kind is made by a function that gets the path, and read by another.


def plain_pickle(path: Path) -> None:
    content = {"a": [np.arange(6.0).reshape(2, 3), "text"], "b": (1, 2.5, None, b"raw")}
    path.write_bytes(pickle.dumps(content, protocol=2))


def python2_pickle(path: Path) -> None:
    matrix = official.old_csc(np.eye(3))
    content = {"m": matrix, "x": official.ch(np.ones((2, 2))), "n": np.arange(3)}
    path.write_bytes(official.python2(content, 2))


def npz(path: Path) -> None:
    official.npz(path, a=np.arange(6), b=[np.arange(3), "x"], c=np.array(["x", "yz"]))


def table(path: Path) -> None:
    keys = {"image": ["a", "b"], "dataset": "freihand", "subject": "hand", "method": "Ours"}
    rest = {name: 1.0 for name in stats.COLUMNS if name not in keys}
    pd.DataFrame(keys | rest).to_parquet(path)


def weights(path: Path) -> None:
    path.write_bytes(save({"a": torch.ones(2, 3), "b": torch.arange(4)}, {"hmdiff": '{"J": 21}'}))


def slim_hrnet(path: Path) -> None:
    torch.manual_seed(0)
    content = hrnet.HRNet(2, 1, (1, 1, 1), 8).state_dict()
    path.write_bytes(save(content)) if path.suffix == ".safetensors" else torch.save(content, path)


def image(path: Path) -> None:
    ramp = np.arange(40 * 30 * 3, dtype=np.uint8).reshape(40, 30, 3)
    Image.fromarray(ramp).save(path)


def mesh(path: Path) -> None:
    vertices = np.random.default_rng(0).standard_normal((12, 3))
    faces = np.array([[i, i + 1, i + 2] for i in range(10)])
    spread = None if path.suffix in (".stl", ".off") else np.arange(12.0)
    made = surfaces.Surface(vertices, faces, None if spread is None else np.ones((12, 3)), spread)
    if path.suffix == ".npz":
        np.savez(path, vertices_m=vertices, faces=faces, spread_mm=spread)
    else:
        surfaces.write(path, made)


def copied(name: str) -> Callable[[Path], None]:
    return lambda path: shutil.copyfile(baked("hand") / name, path)


def hand() -> body.BodyModel:
    return body.load(baked("hand") / "open_hand.npz")


def shared_mesh(path: Path) -> None:
    write_downsampling(path, entries(hand(), coarse.load(baked("hand") / "hand_coarse.npz")))


def recipe(path: Path) -> None:
    committed = bundle.RELEASED / "recovery.json"
    path.write_bytes(committed.read_bytes())


def regressor(path: Path) -> None:
    np.save(path, np.full((1, 6890), 1 / 6890, np.float32))


FILES = {
    "pickle": ("x.pkl", plain_pickle, safe_pickle.load_plain),
    "pickle of Python 2": ("x.pkl", python2_pickle, safe_pickle.load_plain),
    "npz": ("x.npz", npz, safe_pickle.load_npz),
    "body model": ("hand.npz", copied("open_hand.npz"), body.load),
    "coarse mesh": ("coarse.npz", copied("hand_coarse.npz"), coarse.load),
    "shared coarse mesh": ("m.npz", shared_mesh, lambda p: downsampling.load(p, hand(), 20)),
    "regressor": ("J.npy", regressor, lambda path: body.load_regressor(path, 1)),
    "json stream": (
        "x.json", lambda path: path.write_text('{"a": [1, {"b": [2.5]}], "c": "d", "e": {}}'),
        lambda path: list(elements(path)),
    ),
    "params.yaml": (
        "params.yaml", lambda path: shutil.copyfile("params.yaml", path), params.load
    ),
    "searched": (
        "x.json", lambda path: path.write_text('{"image": {"lr": 0.1}}'),
        lambda path: params.searched(params.load(), path, "image"),
    ),
    "recovery.json": (
        "recovery.json", recipe,
        lambda path: bundle.parse(path, bundle.read_json(path, dict)),
    ),
    "weights": ("x.safetensors", weights, checkpoint.load_weights),
    "resume file": (
        "x.pt", lambda path: checkpoint.Resume(path, {}).save({"a": torch.ones(3), "step": 4}),
        lambda path: checkpoint.Resume(path, {}).load(),
    ),
    "ImageNet weights": (
        "x.pth", slim_hrnet,
        lambda path: imagenet.load_imagenet(hrnet.HRNet(2, 1, (1, 1, 1), 8), path),
    ),
    "ImageNet safetensors": (
        "x.safetensors", slim_hrnet,
        lambda path: imagenet.load_imagenet(hrnet.HRNet(2, 1, (1, 1, 1), 8), path),
    ),
    "errors": ("x.parquet", table, stats.read_one),
    "table": ("x.parquet", table, stored.read_table),
    "array": ("x.npy", lambda path: np.save(path, np.arange(9.0)), stored.read_array),
    "image of a data set": ("x.jpg", image, lambda p: (image_size(p), crops.read_image(p))),
    **{
        f"picture {ending}": (f"x.{ending}", image, pictures.read)
        for ending in ("jpg", "png", "webp", "tif", "bmp", "gif", "ppm", "avif")
    },
    **{f"mesh {end}": (f"x.{end}", mesh, surfaces.read)
       for end in ("glb", "obj", "ply", "stl", "off", "npz")},
}  # fmt: skip
SLOW = {"body model": 0.1, "shared coarse mesh": 0.1, "ImageNet weights": 0.2,
        "ImageNet safetensors": 0.2}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_a_damaged_file(tmp_path, kind):
    name, make, reader = FILES[kind]
    make(tmp_path / name)
    spoil_and_read(tmp_path, lambda: reader(tmp_path / name), SLOW.get(kind, 1.0))


NUMBER = st.one_of(st.floats(), st.integers(-(10**30), 10**30))


@settings(deadline=None, database=None)
@given(st.lists(NUMBER, min_size=4, max_size=4), st.integers(1, 60), st.integers(1, 60))
def test_any_box_is_refused_or_gives_a_crop(box, height, width):
    picture = np.zeros((height, width, 3), np.uint8)
    try:
        found = photo.check_box(box, height, width)
        cut, _ = crops.crop(picture, found, 1.2, 32)
    except ValueError as error:
        assert "box" in str(error) and "\n" not in str(error)
    else:
        assert cut.shape == (32, 32, 3)


@settings(deadline=None, database=None)
@given(st.text(max_size=40))
def test_any_text_is_refused_or_gives_a_box(text):
    try:
        assert len(cli.box(text)) == 4
    except cli.argparse.ArgumentTypeError as error:
        assert "is not x,y,width,height" in str(error)


# Bombs: small files that claim, or unpack to, more than fits the memory.


def zeros(path: Path) -> None:
    """An npz whose one entry unpacks to more than is allowed, and is a thousandth as large."""
    size = safe_pickle.LARGEST + 1
    entry = BytesIO()
    np.lib.format.write_array_header_1_0(
        entry, {"descr": "|u1", "fortran_order": False, "shape": (size,)}
    )
    entry.write(bytes(size))
    official.npz(path, v_template=entry.getvalue())


def header_of(shape: tuple, path: Path) -> None:
    """An npy of that shape by its header, and nothing else."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )


def png_of(side: int, path: Path) -> None:
    """A PNG of one colour, square."""
    Image.new("1", (side, side)).save(path)


BOMBS = {
    "zip of zeros": ("x.npz", zeros, safe_pickle.load_npz),
    "zip of zeros as a body": ("x.npz", zeros, body.load),
    "zip of zeros as a coarse mesh": ("x.npz", zeros, coarse.load),
    "array of a terabyte": ("x.npy", lambda path: header_of((1 << 38,), path), stored.read_array),
    "array below zero": ("x.npy", lambda path: header_of((-5,), path), stored.read_array),
    "regressor of a terabyte": (
        "x.npy", lambda path: header_of((9, 1 << 38), path), lambda p: body.load_regressor(p, 9),
    ),
    "memo of 8 GB": (
        "x.pkl", lambda path: path.write_bytes(b"\x80\x02}r\x00\x00\x00\x20"),
        safe_pickle.load_plain,
    ),
    "text of 2 GB": (
        "x.pkl", lambda path: path.write_bytes(b"\x80\x02X\x00\x00\x00\x7fabc."),
        safe_pickle.load_plain,
    ),
    "lists in lists": (
        "x.pkl", lambda path: path.write_bytes(b"\x80\x02" + b"]" * 10**5 + b"a" * 10**5 + b"."),
        safe_pickle.load_plain,
    ),
    "nested json": ("x.json", lambda path: path.write_text("[" * 10**6),
                    lambda path: bundle.read_json(path, dict)),
    "json of endless digits": ("x.json", lambda path: path.write_text('{"a": ' + "9" * 9999 + "}"),
                               lambda path: bundle.read_json(path, dict)),
    "nested yaml": ("x.yaml", lambda path: path.write_text("[" * 10**4), params.load),
    "yaml of laughs": (
        "x.yaml",
        lambda path: path.write_text(
            "a: &a [x, x]\n"
            + "".join(f"{n}: &{n} [*{m}, *{m}, *{m}]\n" for m, n in zip("abcdefghijklmno",
                                                                   "bcdefghijklmnop", strict=True))
        ),
        params.load,
    ),
    "yaml of a bad date": ("x.yaml", lambda path: path.write_text("a: 2001-99-99\n"), params.load),
    "picture of 400 megapixels": ("x.png", lambda path: png_of(20000, path), pictures.read),
    "image of 400 megapixels": ("x.png", lambda path: png_of(20000, path), crops.read_image),
    "size of 400 megapixels": ("x.png", lambda path: png_of(20000, path), image_size),
    "postscript": (
        "x.jpg",
        lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n"),
        crops.read_image,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_does_not_go_off(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(safe_pickle, "LARGEST", 1 << 22)  # of 1 GB: the test's own bombs are small
    name, make, reader = BOMBS[kind]
    make(tmp_path / name)
    with harmless(tmp_path):
        reader(tmp_path / name)
        pytest.fail("it was read")
