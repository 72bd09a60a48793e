"""Weights that others trained on ImageNet go into the backbone, every tensor accounted for."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from hmdiff.hrnet import HRNet
from hmdiff.imagenet import load_imagenet

SLIM = (4, 1, (1, 1, 1), 64)


def backbone(seed: int = 0) -> HRNet:
    torch.manual_seed(seed)
    return HRNet(*SLIM)


def official(seed: int = 1) -> dict[str, torch.Tensor]:
    """A checkpoint of the classification network, its running means not at their start."""
    weights = backbone(seed).state_dict()
    weights = {n: torch.rand_like(w) if w.is_floating_point() else w for n, w in weights.items()}
    return weights | {"classifier.weight": torch.rand(9, 64), "classifier.bias": torch.rand(9)}


def old(weights):
    """As torch wrote before it counted batches."""
    return {n: w for n, w in weights.items() if not n.endswith("num_batches_tracked")}


def metro(weights):
    """As METRO's, Mesh Graphormer's and FastMETRO's networks name it."""
    beside = {n: torch.zeros(2) for n in ("trans_encoder.0.weight", "upsampling.bias", "grid")}
    return {f"backbone.{n}": w for n, w in weights.items()} | beside


def parallel(weights):
    return {f"module.{n}": w for n, w in weights.items()}


WAYS = {
    "official": (lambda w: w, 2, 0),
    "before batches were counted": (old, 2, 0),
    "without classifier": (lambda w: {n: w[n] for n in w if "classifier" not in n}, 0, 0),
    "trained on several GPUs": (parallel, 2, 0),
    "inside METRO": (metro, 2, 3),
    "inside METRO on several GPUs": (lambda w: parallel(metro(w)), 2, 3),
    "in a training checkpoint": (lambda w: {"state_dict": w, "epoch": 3, "lr": 0.1}, 2, 0),
}


def written(path, content):
    save_file(content, path) if path.suffix == ".safetensors" else torch.save(content, path)
    return path


def same(net: HRNet, weights: dict[str, torch.Tensor]) -> bool:
    state = {n: w for n, w in net.state_dict().items() if w.is_floating_point()}
    return all(torch.equal(w, weights[n]) for n, w in state.items())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("legacy", [False, True])
def test_weights_load_by_name_and_what_is_left_out_is_counted(tmp_path, capsys, way, legacy):
    wrap, head, outside = WAYS[way]
    weights, net, path = official(), backbone(), tmp_path / "hrnet.pth"
    torch.save(wrap(weights), path, _use_new_zipfile_serialization=not legacy)
    load_imagenet(net, path)
    assert same(net, weights)
    count = len(old(net.state_dict()))
    assert capsys.readouterr().out == (
        f"{path}: {count} tensors loaded; left out {head} of the classifier, "
        f"{outside} outside the backbone\n"
    )


def test_safetensors_load_as_well(tmp_path):
    weights, net = official(), backbone()
    load_imagenet(net, written(tmp_path / "hrnet.safetensors", weights))
    assert same(net, weights)


def test_loaded_networks_see_alike(tmp_path):
    """The same features come out of the network that was saved and of the one that was loaded."""
    source, net = backbone(1).eval(), backbone(2).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert not torch.allclose(net(images), source(images))
        load_imagenet(net, written(tmp_path / "x.pth", source.state_dict()))
        torch.testing.assert_close(net(images), source(images))


def test_official_names_are_ours_at_w64():
    """Names and shapes of timm's `hrnet_w64`, which keeps the official ones."""
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        theirs, ours = timm.create_model("hrnet_w64").state_dict(), HRNet().state_dict()
    theirs = {n: w.shape for n, w in theirs.items() if not n.startswith("classifier.")}
    assert theirs == {n: w.shape for n, w in ours.items()}


def lacking(weights):
    return {n: w for n, w in weights.items() if not n.startswith("final_layer.")}


def wide(_):
    torch.manual_seed(0)
    return HRNet(6, 1, (1, 1, 1), 64).state_dict()


class Bomb:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


WRONG = {
    "lacking": (lacking, r"lacks 6 \(final_layer\.0\.bias, .*, \.\.\.\); HRNet-W64"),
    "unknown": (
        lambda w: w | {"head.weight": torch.zeros(1)},
        r"has unknown 1 \(head\.weight\); HRNet-W64",
    ),
    "another prefix": (
        lambda w: {f"encoder.{n}": t for n, t in w.items()},
        r"lacks \d+ \(.*\), has unknown \d+ \(encoder\.",
    ),
    "another width": (wide, r"has other shapes of \d+ \(bn1\.bias, .*\); HRNet-W64"),
    "deeper": (
        lambda _: HRNet(4, 2, (1, 1, 1), 64).state_dict(),
        r"has unknown \d+ \(layer1\.1\.bn1\.bias, ",
    ),
    "empty": (lambda _: {}, r"lacks \d+ "),
    "a list": (lambda w: list(w.values()), "other things than tensors by name"),
    "numbers": (lambda w: dict.fromkeys(w, 1.0), "other things than tensors by name"),
    "a whole network": (lambda _: backbone(), "not a file of weights alone"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_does_not_fit_is_told_in_one_line_and_changes_nothing(tmp_path, name):
    make, message = WRONG[name]
    net, path = backbone(), written(tmp_path / "x.pth", make(official()))
    before = {n: w.clone() for n, w in net.state_dict().items()}
    with pytest.raises(ValueError, match=message) as caught:
        load_imagenet(net, path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert same(net, before)


def test_a_hostile_or_damaged_file_does_nothing(tmp_path):
    net, path, mark = backbone(), tmp_path / "x.pth", tmp_path / "mark"
    torch.save({"conv1.weight": Bomb(mark)}, path)
    whole = path.read_bytes()
    loose = pickle.dumps({"conv1.weight": Bomb(mark)}, protocol=2)
    for content in (whole, loose, whole[: len(whole) // 2], b"", b"<html>404</html>"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"x\.pth: not a file of weights alone") as caught:
            load_imagenet(net, path)
        assert "\n" not in str(caught.value)
    assert not mark.exists()
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"\xff" * 64)
    with pytest.raises(ValueError, match=r"x\.safetensors: not a file of weights alone"):
        load_imagenet(net, path)
    with pytest.raises(FileNotFoundError, match="no such weights"):
        load_imagenet(net, tmp_path / "none.pth")
