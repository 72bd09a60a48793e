"""params.yaml: every value has one home, and a wrong one is named with its key."""

from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hmdiff import params
from hmdiff.closed_form import PLUS
from hmdiff.datasets import DATASETS, FILTERS, LAYOUTS
from hmdiff.evaluate import METHODS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "params.yaml").read_text()


def changed(path: Path, key: str, value: object) -> Path:
    """A copy of params.yaml at `path` with one dotted key set."""
    values = yaml.safe_load(TEXT)
    *sections, last = key.split(".")
    place = values
    for section in sections:
        place = place[section]
    place[last] = value
    path.write_text(yaml.safe_dump(values))
    return path


def marked() -> dict[str, str]:
    """Each dotted key of params.yaml with its comment, or with its section's where it has none."""
    found, section, section_note = {}, "", ""
    for line in TEXT.splitlines():
        code, _, note = line.partition(" #")
        key = code.split(":")[0]
        if not code.strip() or code.startswith("#"):
            continue
        if not code.startswith(" "):
            section, section_note = key, note
            if code.rstrip() == f"{key}:":
                continue
            found[key] = note
        else:
            found[f"{section}.{key.strip()}"] = f"{note} {section_note}".strip()
    return found


# Secs. 4.3 and 5, in the units of params.yaml.
PAPER = {
    "phi.heatmap_px": 56,
    "diffusion.K": 200,
    "g.width": 64 + 61 + 3,
    "g.lr": 1e-4,
    "sampler.N": 25,
    "sampler.r": 0.05,
}


def test_what_is_marked_stated_is_the_papers_value():
    values, notes = yaml.safe_load(TEXT), marked()
    stated = {key for key, note in notes.items() if note.strip().startswith("[stated]")}
    assert stated >= {"diffusion.K", "sampler.N", "sampler.r"}
    for key in stated:
        section, name = key.split(".")
        assert values[section][name] == PAPER[key], key


def test_every_value_says_where_it_comes_from():
    notes = marked()
    assert len(notes) > 40
    for key, note in notes.items():
        if key != "profile" and not key.startswith("photo."):
            assert any(mark in note for mark in ("[stated]", "[inferred]", "[chosen]")), key


def test_names_of_data_sets_are_those_of_the_readers():
    names = {name for sets in LAYOUTS.values() for name in sets}
    assert names == set(get_args(params.Dataset))
    assert {s: {n for n in params.STUDY if params.subject_of(n) == s} for s in DATASETS} == {
        subject: set(sets) for subject, sets in DATASETS.items()
    }
    fields = {name: field.annotation for name, field in params.Extra.model_fields.items()}
    assert set(get_args(fields["filter"])) == set(FILTERS)
    assert set(get_args(get_args(fields["layout"])[0])) == set(LAYOUTS)


def test_names_of_methods_are_those_of_the_evaluation():
    assert set(get_args(params.Method)) == {*METHODS, PLUS}


def test_values_cannot_be_changed_in_passing():
    values = params.load(ROOT / "params.yaml")
    with pytest.raises(ValidationError):
        values.sampler.gamma = 1.0


TUNE = {"epochs": {"body": 5, "hand": 0}, "lr": 1e-4}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("g.hedas", 2, "g.hedas: unknown key"),
        ("sampler.r", 1.5, "sampler.r"),
        ("sampler.gamma", "much", "sampler.gamma"),
        ("prepare.phi_fraction", 1.0, "prepare.phi_fraction"),
        ("diffusion.schedule", "cosine", "diffusion.schedule"),
        ("phi.input_px", 200, "phi.input_px"),
        ("g.width", 64, "g.width"),
        ("source", "internet", "source"),
        ("seeds", [], "seeds"),
        ("tune.r", [], "tune.r"),
        ("sampler.steps", 201, "201 steps asked for, but diffusion.K is 200"),
        ("tune.steps", [10, 500], "500 steps asked for, but diffusion.K is 200"),
        ("sampler.steps", 120, "sampler.steps: 120 steps do not fit below tune.start_step 100"),
        ("tune.steps", [120], "tune.steps: 120 steps do not fit below tune.start_step 100"),
        ("studio.freihand", {"train": 1, "test": 1}, "studio.freihand.validation"),
        ("prepare.extra", [{"dataset": "cocoo", "root": "a"}], "prepare.extra.0.dataset"),
        ("prepare.extra", [{"dataset": "coco", "root": "a", "filter": "x"}], "extra.0.filter"),
        ("prepare.extra", [{"dataset": "coco", "root": "../a"}], "extra.0: root ../a is not below"),
        ("prepare.extra", [{"dataset": "threedpw", "root": "a"}], "threedpw is read anyway"),
        ("prepare.extra", 2 * [{"dataset": "coco", "root": "a"}], "extra: coco is there twice"),
        ("phi.mix", {"cocoo": 1.0}, "phi.mix.cocoo"),
        ("phi.mix", {"coco": 1.0}, "phi.mix: coco is not read; add it to prepare.extra"),
        ("phi.mix", {"threedpw": 0.5}, "phi: mix: the shares of the body add up to 0.5, not to 1"),
        ("phi.finetune", {"dataset": "3dpw", **TUNE}, "phi.finetune.dataset"),
        ("phi.finetune", {"dataset": "mpii", **TUNE}, "phi.finetune.dataset: mpii is not read"),
        ("phi.finetune", {"dataset": "freihand", **TUNE}, "epochs.body: freihand shows no body"),
        ("g.mix", {"coco": 1.0}, "g.mix: coco is not read; add it to prepare.extra"),
        ("g.mix", {"freihand": 2.0}, "g: mix: the shares of the hand add up to 2, not to 1"),
        ("g.finetune", {"dataset": "mpii", **TUNE}, "g.finetune.dataset: mpii is not read"),
        ("seeds", [0, -1], "seeds.1: Input should be greater than or equal to 0"),
        ("seeds", [0, 1, 0], "seeds: 0 is there twice; remove one"),
        ("studio.seed", -1, "studio.seed"),
        ("phi.epochs", {"body": 12}, "phi.epochs: the hand has none; add hand"),
        ("phi.cube_m", {"hand": 0.4}, "phi.cube_m: the body has none; add body"),
        ("g.steps", {}, "g.steps: the body has none"),
        ("g.baseline_b_layers", {"body": 2}, "g.baseline_b_layers: the hand has none"),
        ("phi.width", 15, "phi.width"),
        ("phi.lr", float("inf"), "phi.lr: Input should be a finite number"),
        ("phi.cube_m", {"body": float("nan"), "hand": 0.4}, "phi.cube_m.body"),
        ("g.lambda", dict.fromkeys("vjne", float("nan")), "g.lambda.v"),
        ("tune.gamma", [float("inf")], "tune.gamma.0"),
        ("search.try", [{"lr": float("inf")}], "search.try.0.lr"),
        ("g.heads", 3, "g: heads: 3 do not divide a width of 128"),
        ("phi.heatmap_px", 64, "phi.heatmap_px: g reads heatmaps of 56, not 64"),
        ("hypotheses.methods", ["Hers"], "hypotheses.methods.0"),
        ("hypotheses.sizes", [], "hypotheses.sizes"),
        ("readings.lengths", ["quarter", "quarter"], "readings.lengths: quarter is there twice"),
        ("readings.train", ["h0", "h0"], "readings.train: h0 is there twice"),
        (
            "prepare.extra",
            [{"dataset": "muco", "layout": "spin", "root": "a"}],
            "prepare.extra.0: layout 'spin': not one of muco; one of ('pose2mesh', 'tsv')",
        ),
        ("prepare.layouts", {"freihand": "spin"}, "prepare: layout 'spin': not one of freihand"),
        ("prepare.layouts", {"human36m": "metro"}, "prepare.layouts.human36m"),
        ("prepare.layouts", {"coco": "tsv"}, "layouts: coco is none of the study's"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(tmp_path, key, value, message):
    path = changed(tmp_path / "params.yaml", key, value)
    with pytest.raises(ValueError, match="params.yaml") as caught:
        params.load(path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_what_fine_tunes_may_name_one_subject_and_nothing_need_be_read_in_other_ways(tmp_path):
    tune = {"dataset": "freihand", "epochs": {"hand": 2}, "lr": 1e-4}
    path = changed(tmp_path / "params.yaml", "phi.finetune", tune)
    assert params.load(path).phi.finetune.epochs == {"hand": 2}
    path = changed(tmp_path / "params.yaml", "readings.train", [])
    assert params.load(path).readings.train == ()
    path = changed(tmp_path / "params.yaml", "prepare.layouts", {"human36m": "tsv"})
    assert params.load(path).prepare.layouts == {"human36m": "tsv"}


@pytest.mark.parametrize("text", ["a: [1\n", "- 1\n- 2\n", "", "\x00", "g: *nothing\n"])
def test_a_file_that_is_no_mapping_is_named_in_one_line(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="params.yaml") as caught:
        params.load(path)
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_given_leave_no_trace_in_what_describes_a_network():
    values = yaml.safe_load(TEXT)
    phi = params.load(ROOT / "params.yaml").phi
    assert "weights" in values["phi"] and "weights" not in phi.model_dump(
        mode="json", exclude_defaults=True
    )
    given = phi.model_copy(update={"weights": Path("a/b.pth")})
    dumped = given.model_dump(mode="json", exclude_defaults=True)
    assert dumped["weights"] == "a/b.pth" and params.Phi.model_validate(dumped) == given


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(ValueError, match="run from the project's root"):
        params.load(tmp_path / "params.yaml")


TREES = st.recursive(
    st.integers(),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)
MAPPINGS = st.dictionaries(st.sampled_from("abcd"), TREES, max_size=4)


@given(MAPPINGS, MAPPINGS)
def test_an_overlay_wins_where_it_speaks_and_only_there(base, top):
    before = yaml.safe_dump(base)
    merged = params.overlay(base, top)
    assert set(merged) == set(base) | set(top)
    for key, value in merged.items():
        if key not in top:
            assert value == base[key]
        elif not (isinstance(top[key], dict) and isinstance(base.get(key), dict)):
            assert value == top[key]
        else:
            assert value == params.overlay(base[key], top[key])
    assert yaml.safe_dump(base) == before
    assert params.overlay(merged, top) == merged
