"""A bundle gives what the run itself gives, to half a millimetre, and is refused when damaged."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import skimage.data
import torch
from tiny import IMAGES, SEED, STEPS

from hmdiff import closed_form, evaluate, linear, pretrain, splits
from hmdiff.checkpoint import load_weights, save_weights
from hmdiff.fast import as_one_map
from hmdiff.recovery import bundle, photo


@pytest.mark.parametrize("subject", ["body", "hand"])
def test_half_precision_moves_no_mesh_by_half_a_millimetre(tiny_run, weights, subject):
    released = bundle.load(weights, subject)
    settings, data = released.bench.params, tiny_run / "data"
    bench = evaluate.load_bench(subject, SEED, data, settings)
    phi, _ = pretrain.load_phi(data / f"phi/{subject}/phi.safetensors")
    cube_m = settings.phi.cube_m[subject]
    g_split, val = (splits.load_split(subject, name, data, cube_m) for name in ("g", "val"))
    gains = closed_form.fit(bench, g_split, val, STEPS)
    whole = replace(released, bench=bench, phi=phi, gains=gains)
    camera, box = skimage.data.camera()[..., None].repeat(3, 2), np.array([104.0, 70, 250, 420])
    meshes = []
    for one in (released, whole):
        scale_m = settings.phi.cube_m[subject] / one.phi.cube
        sample = photo.one_sample(camera, box, one.bench, one.phi, settings, scale_m)
        h_0 = closed_form.sample_plus(one.bench, one.knobs, sample, one.gains, 1)[0]
        meshes.append(evaluate.full_mesh_mm(one.bench, h_0, scale_m))
    moved = (meshes[0] - meshes[1]).norm(dim=-1)
    assert float(moved.mean()) < 0.5
    assert 0 < float(moved.max()) < 2
    assert float(meshes[1].std(dim=1).mean()) > 10  # there is a mesh to move


def test_the_composed_map_is_the_chain_of_maps():
    torch.manual_seed(0)
    chain = linear.Upsampler([4, 7, 11, 13])
    h = torch.randn(5, 4, 3)
    torch.testing.assert_close(as_one_map(chain)(h), chain(h), rtol=1e-4, atol=1e-5)


def test_the_gains_are_those_that_g_and_validation_images_give(tiny_run, weights):
    released = bundle.load(weights, "hand")
    assert released.knobs.steps == STEPS == len(released.gains.G)
    bench = evaluate.load_bench("hand", SEED, tiny_run / "data", released.bench.params)
    g_split, val = (splits.load_split("hand", s, tiny_run / "data", 0.44) for s in ("g", "val"))
    assert len(g_split) == IMAGES
    gains = closed_form.fit(bench, g_split, val, STEPS)
    assert released.gains.width == gains.width
    for half, whole in zip(released.gains.G, gains.G, strict=True):
        torch.testing.assert_close(half, whole, rtol=1e-3, atol=1e-4)


@pytest.fixture
def copy(weights, tmp_path):
    return shutil.copytree(weights, tmp_path / "weights")


def refused(folder) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        bundle.load(folder, "hand")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_without_a_release_names_the_remedy(tmp_path):
    assert "python -m hmdiff.pipeline.release" in refused(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "name",
    ["phi-hand.safetensors", "hand-gains.safetensors", "hand_coarse.npz", "hand.npz",
     "hand-linear.safetensors", f"hand-image-{SEED}.safetensors", "recovery.json"],
)  # fmt: skip
@pytest.mark.parametrize("content", [None, b"", b"\x80\x04cos\nsystem\n(S'true'\ntR."])
def test_a_missing_or_damaged_file_is_named_and_never_run(copy, name, content):
    (copy / name).unlink()
    if content is not None:
        (copy / name).write_bytes(content)
    assert str(copy) in refused(copy)


def test_files_of_different_systems_are_refused(copy):
    shutil.copyfile(copy / "body-gains.safetensors", copy / "hand-gains.safetensors")
    assert "gains are of another system" in refused(copy)


def test_weights_of_another_shape_are_refused(copy):
    path = copy / f"hand-image-{SEED}.safetensors"
    tensors, meta = load_weights(path)
    save_weights(path, {name: t[:1] if t.ndim else t for name, t in tensors.items()}, meta)
    assert "do not fit together" in refused(copy)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"seed": "x"}, "seed"),
        ({"knobs": {}}, "knobs of Ours+ are missing"),
        ({"more": 1}, "more"),
        ({"g": {}}, "g."),
    ],
)
def test_wrong_settings_are_named(copy, change, key):
    values = json.loads((copy / "recovery.json").read_text()) | change
    (copy / "recovery.json").write_text(json.dumps(values))
    assert key in refused(copy)
