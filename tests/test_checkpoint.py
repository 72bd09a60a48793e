"""Weights and resume files: exact, atomic, and nothing in them is executed."""

import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hmdiff import checkpoint
from hmdiff.checkpoint import Memo, Resume, load_weights, save_weights

META = {"variant": "image", "V": 431, "list": [1, 2]}


def network() -> nn.Module:
    """A small network with a buffer."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_weights_and_meta_come_back_as_they_were(tmp_path):
    net = network()
    save_weights(tmp_path / "a" / "w.safetensors", net, META)
    weights, meta = load_weights(tmp_path / "a" / "w.safetensors")
    assert meta == META
    assert set(weights) == set(net.state_dict())
    assert all(torch.equal(weights[name], value) for name, value in net.state_dict().items())
    assert not list((tmp_path / "a").glob("*.part"))


def test_the_same_weights_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        save_weights(tmp_path / name, network(), dict(sorted(META.items(), reverse=name == "b")))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_views_and_transposes_are_stored_as_they_read(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    save_weights(tmp_path / "w", {"t": base.T, "row": base[1]}, {})
    weights, _ = load_weights(tmp_path / "w")
    assert torch.equal(weights["t"], base.T) and torch.equal(weights["row"], base[1])


def test_missing_weights_name_the_file_and_the_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"w.safetensors: no such weights; run `dvc repro`"):
        load_weights(tmp_path / "w.safetensors")


@given(keep=st.floats(0, 0.99))
def test_truncated_weights_are_one_line(tmp_path_factory, keep):
    path = tmp_path_factory.mktemp("w") / "w.safetensors"
    save_weights(path, network(), META)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(ValueError, match="damaged weights") as caught:
        load_weights(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_failed_write_leaves_the_earlier_weights(tmp_path, monkeypatch):
    path = tmp_path / "w"
    save_weights(path, {"a": torch.ones(2)}, {})
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        save_weights(path, {"a": torch.zeros(2)}, {})
    assert torch.equal(load_weights(path)[0]["a"], torch.ones(2))


STATE = {"step": 3, "model": {"w": torch.arange(4.0)}, "history": [[1, 0.5], [2, 0.25]]}


def test_a_loop_finds_its_state_again(tmp_path):
    Resume(tmp_path / "r" / "x.pt", {"seed": 0}).save(STATE)
    state = Resume(tmp_path / "r" / "x.pt", {"seed": 0}).load()
    assert state["step"] == 3 and state["history"] == STATE["history"]
    assert torch.equal(state["model"]["w"], STATE["model"]["w"])


def test_an_optimiser_and_a_generator_go_on_bit_for_bit(tmp_path):
    def loop(stop: int, keeper: Resume) -> torch.Tensor:
        torch.manual_seed(1)
        net, generator = nn.Linear(3, 1), torch.Generator().manual_seed(5)
        optimiser, start = torch.optim.Adam(net.parameters(), lr=0.1), 0
        if state := keeper.load():
            net.load_state_dict(state["net"])
            optimiser.load_state_dict(state["optimiser"])
            generator.set_state(state["generator"])
            start = state["step"]
        for _ in range(start, stop):
            optimiser.zero_grad()
            net(torch.randn(8, 3, generator=generator)).square().mean().backward()
            optimiser.step()
        keeper.save(
            {
                "step": stop,
                "net": net.state_dict(),
                "optimiser": optimiser.state_dict(),
                "generator": generator.get_state(),
            }
        )
        return net.weight.detach()

    whole = loop(6, Resume(tmp_path / "a", {}))
    loop(2, Resume(tmp_path / "b", {}))
    assert torch.equal(loop(6, Resume(tmp_path / "b", {})), whole)


def test_another_setting_starts_over(tmp_path):
    Resume(tmp_path / "x", {"lr": 0.1}).save(STATE)
    assert Resume(tmp_path / "x", {"lr": 0.2}).load() is None
    assert Resume(tmp_path / "none", {"lr": 0.1}).load() is None


class Bomb:
    """Writes a file when unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


@pytest.mark.parametrize("kind", ["pickle", "torch", "noise", "empty"])
def test_a_hostile_or_damaged_resume_file_is_ignored(tmp_path, kind):
    path, mark = tmp_path / "x", tmp_path / "mark"
    match kind:
        case "pickle":
            path.write_bytes(pickle.dumps({"key": "{}", "state": Bomb(mark)}))
        case "torch":
            torch.save({"key": "{}", "state": Bomb(mark)}, path)
        case "noise":
            path.write_bytes(os.urandom(500))
        case "empty":
            path.touch()
    assert Resume(path, {}).load() is None
    assert not mark.exists()


def test_saving_is_due_once_in_a_while_and_the_file_goes_when_done(tmp_path):
    keeper = Resume(tmp_path / "x", {}, every_s=1000)
    assert not keeper.due()
    keeper.saved_at -= 1001
    assert keeper.due()
    keeper.save(STATE)
    assert not keeper.due() and keeper.path.is_file()
    keeper.clear()
    keeper.clear()
    assert not keeper.path.exists()


def table(seed: int) -> pd.DataFrame:
    """A frame of many types, with rows picked out of a longer one."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"image": ["a", "b", "c", "d"], "steps": 3, "gamma": 0.1, "seed": seed})
    frame["MPVE"] = rng.normal(100, 30, 4).astype(np.float32)
    frame["active"] = [np.nan, 0.5, 1 / 3, 0.0]
    return frame.iloc[[0, 2, 3]]


def test_what_a_stage_has_made_before_a_kill_is_not_made_again(tmp_path):
    made = []

    def stage(memo: Memo, stop: int) -> pd.DataFrame:
        def make(seed: int) -> pd.DataFrame:
            made.append(seed)
            return table(seed)

        return pd.concat([memo({"seed": n}, lambda n=n: make(n)) for n in range(stop)])

    whole = stage(Memo(tmp_path / "whole.pt"), 4)
    made.clear()
    stage(Memo(tmp_path / "x.pt", every_s=0), 2)  # and then it is killed
    memo = Memo(tmp_path / "x.pt", every_s=0)
    pd.testing.assert_frame_equal(stage(memo, 4), whole, check_exact=True)
    pd.testing.assert_frame_equal(whole, pd.concat(map(table, range(4))), check_exact=True)
    assert made == [0, 1, 2, 3]
    memo.clear()
    assert not list(tmp_path.iterdir())


def test_a_memo_of_other_code_is_forgotten(tmp_path, monkeypatch):
    Memo(tmp_path / "x.pt", every_s=0)({}, lambda: table(0))
    monkeypatch.setattr(checkpoint, "own_code", lambda: "other")
    found = Memo(tmp_path / "x.pt")({}, lambda: table(1))
    pd.testing.assert_frame_equal(found, table(1))
