"""params.yaml as a typed, frozen object; an unknown key or an impossible value is an error.

A profile (profiles/*.yaml) is an overlay on params.yaml, merged key by key before validation.
"""

import json
import reprlib
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)


def distinct(values: tuple) -> tuple:
    """The values, if none is there twice."""
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{value} is there twice; remove one")
    return values


Positive = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0)]
Length = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
Subject = Literal["body", "hand"]
T = TypeVar("T")
Grid = Annotated[tuple[T, ...], Field(min_length=1)]  # values to try
Distinct = Annotated[tuple[T, ...], AfterValidator(distinct)]
Source = Literal["studio", "raw"]


class Block(BaseModel):
    """A section of params.yaml; its numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Counts(Block):
    train: Positive
    validation: Positive
    test: Positive


class Studio(Block):
    image_px: Annotated[int, Field(ge=64, le=1024)]
    seed: Seed
    threedpw: Counts
    human36m: Counts
    freihand: Counts


Dataset = Literal["threedpw", "human36m", "freihand", "coco", "mpii", "muco", "up3d"]
Layout = Literal["threedpw", "human36m", "freihand", "pose2mesh", "tsv", "spin"]
STUDY = ("threedpw", "human36m", "freihand")  # sets that every study reads


def subject_of(dataset: Dataset) -> Subject:
    """What a data set shows."""
    return "hand" if dataset == "freihand" else "body"


def check_layout(dataset: Dataset, layout: Layout) -> None:
    """Raise ValueError for a layout that a data set is not published in."""
    from .datasets import layout_of  # late: readers take their time to be imported

    layout_of(dataset, "train", layout)


class Extra(Block):
    """A further data set to train on, below the folder of the study's own sets.

    Attributes:
        layout: of `datasets.LAYOUTS`; by default the data set's usual one.
        root: its folder, relative to that of its subject's sets.
        filter: of `datasets.FILTERS`, which annotations to leave out.
    """

    dataset: Dataset
    layout: Layout | None = None
    root: Path
    filter: Literal["reader", "pose2mesh", "metro"] = "reader"

    @model_validator(mode="after")
    def is_new_and_below(self) -> "Extra":
        """A set read twice could show one person to both phi and g."""
        if self.dataset in STUDY:
            raise ValueError(f"{self.dataset} is read anyway; remove it")
        if self.root.is_absolute() or ".." in self.root.parts:
            raise ValueError(f"root {self.root} is not below the source's folder; move it there")
        if self.layout:
            check_layout(self.dataset, self.layout)
        return self


class Prepare(Block):
    """How samples are cut out and parted.

    Attributes:
        layouts: of the study's own sets, where it is not their usual one.
    """

    box_scale: Annotated[float, Field(ge=1, le=3)]
    phi_fraction: Share
    upsampler_meshes: Positive
    layouts: dict[Dataset, Layout] = {}
    extra: tuple[Extra, ...] = ()

    @model_validator(mode="after")
    def layouts_fit(self) -> "Prepare":
        """Each names a set of the study and a layout that it is published in."""
        for dataset, layout in self.layouts.items():
            if dataset not in STUDY:
                raise ValueError(f"layouts: {dataset} is none of the study's; name it in extra")
            check_layout(dataset, layout)
        return self

    @model_validator(mode="after")
    def extra_sets_differ(self) -> "Prepare":
        """Each is read once."""
        names = [extra.dataset for extra in self.extra]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"extra: {name} is there twice; remove one")
        return self


class Finetune(Block):
    """Training that goes on over one data set alone."""

    dataset: Dataset
    epochs: dict[Subject, Annotated[int, Field(ge=0)]]
    lr: Length

    @model_validator(mode="after")
    def its_subject_trains(self) -> "Finetune":
        """No epochs of bodies over a set of hands."""
        for subject, epochs in self.epochs.items():
            if epochs and subject != subject_of(self.dataset):
                raise ValueError(f"epochs.{subject}: {self.dataset} shows no {subject}; make it 0")
        return self


class Mixed(Block):
    """What trains on a mix of data sets and then, perhaps, on one of them.

    Attributes:
        mix: the share that each set has of what is drawn; none: every image alike.
        finetune: what comes after that.
    """

    mix: dict[Dataset, Length] = {}
    finetune: Finetune | None = None

    def shares(self, subject: Subject) -> dict[Dataset, float]:
        """The part of `mix` that is a subject's."""
        return {name: share for name, share in self.mix.items() if subject_of(name) == subject}

    @model_validator(mode="after")
    def shares_make_a_whole(self) -> "Mixed":
        """A subject that has shares has all of them."""
        for subject in ("body", "hand"):
            total = sum(self.shares(subject).values())
            if self.shares(subject) and abs(total - 1) > 1e-6:
                raise ValueError(f"mix: the shares of the {subject} add up to {total:g}, not to 1")
        return self


class Phi(Mixed):
    weights: Path | None = None
    input_px: Annotated[int, Field(ge=64, multiple_of=32)]
    augment: Annotated[float, Field(ge=0, le=1)]
    width: Annotated[int, Field(gt=0, multiple_of=2)]
    blocks: Positive
    modules: tuple[Positive, Positive, Positive]
    context_channels: Annotated[int, Field(ge=128, multiple_of=128)]
    deconv_channels: Positive
    heatmap_px: Positive
    cube_m: dict[Subject, Length]
    sigma_bins: Length
    epochs: dict[Subject, Positive]
    batch: Positive
    lr: Length


class Diffusion(Block):
    K: Annotated[int, Field(ge=2)]
    schedule: Literal["beta", "alpha"]
    beta: tuple[Share, Share]


class LossWeights(Block):
    v: Weight
    j: Weight
    n: Weight
    e: Weight


class Denoiser(Mixed):
    width: Annotated[int, Field(ge=68)]
    heads: Positive
    feedforward: Positive
    output: Literal["v", "epsilon", "h0"]
    steps: dict[Subject, Positive]
    batch: Positive
    lr: Length
    ema: Annotated[float, Field(ge=0, lt=1)]
    clip: Length
    weights: LossWeights = Field(alias="lambda")
    baseline_b_layers: dict[Subject, Positive]

    @model_validator(mode="after")
    def heads_share_the_width(self) -> "Denoiser":
        """Each has as many channels as the others."""
        if self.width % self.heads:
            raise ValueError(f"heads: {self.heads} do not divide a width of {self.width}")
        return self


class Sampler(Block):
    N: Positive
    hypotheses: Positive
    r: Annotated[float, Field(ge=0, le=1)]
    gamma: Weight
    eta: Annotated[float, Field(ge=0, le=1)]
    steps: Positive


class Tune(Block):
    images: Positive
    steps: Grid[Positive]
    gamma: Grid[Weight]
    r: Grid[Annotated[float, Field(ge=0, le=1)]]
    N: Grid[Positive]
    direct_gamma: Grid[Weight]
    start_step: Grid[Positive]
    eta: Grid[Annotated[float, Field(ge=0, le=1)]]
    slack: Annotated[float, Field(ge=0, lt=1)]
    plus_steps: Grid[Positive]


class Trial(Block):
    """Changes to `g` that the search tries; what is not named stays."""

    lr: Length | None = None
    weights: dict[Literal["v", "j", "n", "e"], Weight] = Field(default={}, alias="lambda")

    def changes(self) -> dict:
        """As an overlay on `g`, in the keys of params.yaml."""
        return self.model_dump(by_alias=True, exclude_defaults=True)

    def describe(self) -> str:
        """For a table's head: "lr 0.004", "lambda_n 0"."""
        parts = [f"lambda_{name} {value:g}" for name, value in self.weights.items()]
        parts += [f"lr {self.lr:g}"] if self.lr else []
        return ", ".join(parts) or "as it stands"


class Search(Block):
    steps: Positive
    images: Positive
    trials: tuple[Trial, ...] = Field(alias="try")


Method = Literal[
    "Image Feature", "Pose Feature", "Both Features", "Ours w/ H_U", "Direct L2", "Ours w/ u_c",
    "Ours w/o AS", "Ours", "Ours+",
]  # fmt: skip


class Hypotheses(Block):
    images: Positive
    N: Annotated[int, Field(ge=2)]
    sizes: Grid[Positive]
    methods: Grid[Method]
    scored: Positive
    steps: Grid[Positive]

    @model_validator(mode="after")
    def sizes_are_drawn(self) -> "Hypotheses":
        """The first M hypotheses are among the N."""
        if max(self.sizes) > self.N:
            raise ValueError(f"sizes up to {max(self.sizes)} asked for, but N is {self.N}")
        return self


class Readings(Block):
    images: Positive
    train: Distinct[Literal["epsilon", "h0", "literal", "alpha", "random_ids"]]
    lengths: Distinct[Literal["quarter", "fourfold"]]


class Speed(Block):
    images: Positive
    repeats: Positive


class Stats(Block):
    bootstrap: Annotated[int, Field(ge=100)]
    level: Share


class Params(Block):
    """The whole of params.yaml."""

    profile: str
    source: Source = "studio"  # releases from before there was a choice do not say
    seeds: Annotated[Distinct[Seed], Field(min_length=1)]
    studio: Studio
    prepare: Prepare
    phi: Phi
    diffusion: Diffusion
    g: Denoiser
    sampler: Sampler
    tune: Tune
    search: Search
    hypotheses: Hypotheses
    readings: Readings
    speed: Speed
    stats: Stats
    photo: dict[str, tuple[int, int, Positive, Positive]]

    @model_validator(mode="after")
    def steps_fit_the_schedule(self) -> "Params":
        """No sampler can take more steps than the schedule has, or than lie below its start."""
        tune, least = self.tune, min(self.tune.start_step)
        scored = self.hypotheses.steps
        asked = (self.sampler.steps, *tune.steps, *tune.start_step, *tune.plus_steps, *scored)
        for steps in asked:
            if steps > self.diffusion.K:
                raise ValueError(f"{steps} steps asked for, but diffusion.K is {self.diffusion.K}")
        least_asked = {"sampler.steps": self.sampler.steps, "tune.steps": min(tune.steps)}
        for key, steps in (least_asked | {"hypotheses.steps": max(scored)}).items():
            if steps > least:
                raise ValueError(f"{key}: {steps} steps do not fit below tune.start_step {least}")
        return self

    @model_validator(mode="after")
    def body_and_hand_have_their_own(self) -> "Params":
        """What differs between them is there for both."""
        phi, g = self.phi, self.g
        parted = {"phi.cube_m": phi.cube_m, "phi.epochs": phi.epochs, "g.steps": g.steps}
        for key, values in (parted | {"g.baseline_b_layers": g.baseline_b_layers}).items():
            for subject in ("body", "hand"):
                if subject not in values:
                    raise ValueError(f"{key}: the {subject} has none; add {subject}")
        return self

    @model_validator(mode="after")
    def heatmaps_fit_g(self) -> "Params":
        """g reads 14 x 14 cells, each of 4 x 4 bins of a heatmap."""
        if self.phi.heatmap_px != 56:
            raise ValueError(f"phi.heatmap_px: g reads heatmaps of 56, not {self.phi.heatmap_px}")
        return self

    @model_validator(mode="after")
    def what_trains_is_read(self) -> "Params":
        """phi and g train on no data set that `prepare` leaves out."""
        read = {*STUDY, *(extra.dataset for extra in self.prepare.extra)}
        for block, trained in (("phi", self.phi), ("g", self.g)):
            tune = trained.finetune
            named = [(f"{block}.mix", name) for name in trained.mix]
            named += [(f"{block}.finetune.dataset", tune.dataset)] if tune else []
            for key, name in named:
                if name not in read:
                    raise ValueError(f"{key}: {name} is not read; add it to prepare.extra")
        return self


def load(path: str | Path = "params.yaml") -> Params:
    """Read and check a parameter file.

    Raises:
        ValueError: one line that names the file, the key, what is wrong and what it should be.
    """
    return parse(read_yaml(path), path)


def parse(values: dict, path: str | Path) -> Params:
    """Check the values read from `path`; errors as in `load`."""
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        what = {
            "extra_forbidden": "unknown key (remove it, or correct its spelling)",
            "value_error": first["msg"].removeprefix("Value error, "),  # ours, from above
        }.get(first["type"], f"{first['msg']}, got {reprlib.repr(first['input']):.60}")
        raise ValueError(": ".join(filter(None, [str(path), key, what]))) from None


def with_g(params: Params, changes: dict) -> Params:
    """`params` with an overlay, in the keys of params.yaml, on its section `g`."""
    g = Denoiser.model_validate(overlay(params.g.model_dump(by_alias=True), changes))
    return params.model_copy(update={"g": g})


def searched(params: Params, path: str | Path, system: str) -> Params:
    """`params` with what the search at `path` chose for a system; for a reading of Ours, Ours'.

    Raises:
        FileNotFoundError, ValueError: one line that names the file and the remedy.
    """
    try:
        found = json.loads(Path(path).read_text())
        return with_g(params, found.get(system, found["image"]))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such search; run `dvc repro` to make it") from None
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise ValueError(f"{path}: damaged search; delete it and run again") from None


def read_yaml(path: str | Path) -> dict:
    """Read a YAML mapping; ValueError names the file if it is missing or not one."""
    try:
        values = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise ValueError(f"{path}: not found; run from the project's root") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); mend that first") from None
    except Exception as error:  # the parser raises many kinds: dates, tags, endless nesting
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not valid YAML ({reason:.120}); mend the syntax") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: must be a mapping of sections")
    return values


def overlay(base: dict, top: dict) -> dict:
    """`base` with the values of `top` laid over it, mappings merged key by key."""
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = overlay(base[key], value) if both else value
    return merged
