"""What the licensed profile costs on one GPU and on many: an estimate on paper, nothing is trained.

    python -m hmdiff.pipeline.cost            # the table of docs/cost.md

Work is counted from the profile itself (images, epochs, steps, grids) and from the networks'
operations as PyTorch counts them; rates are measured where they were (MEASURED), else assumed. A
kind of stage is a wave of jobs. On G GPUs it takes as long as its work shared by all of them, or as
its longest job on as many as that job can use, whichever is longer.
"""

import sys
from dataclasses import dataclass

import torch

from ..evaluate import CHAINS, METHODS
from ..params import Params, Subject, parse
from ..peers import PEERS
from ..pretrain import Phi
from ..report.typeset import markdown_rows
from ..search import ROW_OF, trials
from ..speed import flops
from ..train import VARIANTS, build
from . import profiles

GPUS = (1, 8, 64)
# MEASURED. g of bodies, batch 64, on one H100: 80 steps/s (at batch 8, 60: the card waits for its
# kernels to be launched), with products in float32, where training takes bf16 since. Forward and
# backward on two CPU cores of this project's machine: phi of the default profile takes 1.67 ms for
# 0.186 GFLOP (Table 6's data).
STEPS_PER_S = 80.0
CPU_FLOPS = 0.186e9 / 1.67e-3
# ASSUMED. Data sheet of the H100 SXM (dense), and what share of it networks of these shapes reach:
# convolutions in TF32, matrix products in float32. Crops are what `make bench` asks of two threads.
CONVOLUTIONS = 0.2 * 495e12
PRODUCTS = 0.3 * 67e12
CROPS_PER_S = 150.0
# ASSUMED. Samples of the files as the field has them (METRO's counts), as the readers take them.
TRAIN: dict[Subject, dict[str, int]] = {
    "body": {"threedpw": 22_735, "human36m": 312_188, "coco": 40_055, "mpii": 14_810,
             "muco": 101_883, "up3d": 7_126},
    "hand": {"freihand": 123_728},
}  # fmt: skip
TEST: dict[Subject, int] = {"body": 35_515 + 27_558, "hand": 3_960}
V: dict[Subject, int] = {"body": 431, "hand": 195}
J: dict[Subject, int] = {"body": 24, "hand": 21}

Flops = dict[str | tuple[Subject, str], int]  # "phi": an image; (subject, variant): a training step


@dataclass(frozen=True)
class Work:
    """A wave of independent jobs.

    Attributes:
        kind: of stage.
        hours: of one GPU, a job.
        spread: GPUs that one job can use.
    """

    kind: str
    hours: list[float]
    spread: int

    def wall(self, gpus: int) -> float:
        """Hours on so many GPUs."""
        return max(sum(self.hours) / gpus, max(self.hours) / min(gpus, self.spread))


def phi_flops(params: Params) -> int:
    """Of phi's forward pass, an image."""
    with torch.device("meta"):
        phi = Phi(params.phi, J["body"], 1.0)
        return flops(lambda: phi(torch.empty(1, 3, params.phi.input_px, params.phi.input_px)))


def g_flops(params: Params, subject: Subject, variant: str) -> int:
    """Of a training step: forward and backward, a batch."""
    B, v, j = params.g.batch, V[subject], J[subject]
    with torch.device("meta"):
        model = build(variant, subject, params, v, j)
        f_I, heat = torch.empty(B, 128, 49), torch.empty(B, 2 * j, 14, 14)
        rest = (torch.empty(B, v, 3), torch.zeros(B, dtype=torch.long))

        def step() -> None:
            c = model.condition(f_I, heat)
            mesh = model(*rest, c) if VARIANTS[variant].diffusion else model(c)
            mesh.sum().backward()

        return flops(step)


def count(params: Params) -> Flops:
    """All that the estimate needs; half a minute."""
    found: Flops = {"phi": phi_flops(params)}
    return found | {
        (s, variant): g_flops(params, s, variant) for s in TRAIN for variant in VARIANTS
    }


def step_s(F: Flops, subject: Subject, system: str) -> float:
    """A training step: as measured for g, and what its operations take beyond g's."""
    more = F.get((subject, system), 0) - F["body", "image"]
    return 1 / STEPS_PER_S + max(more, 0) / PRODUCTS


def sampling_hours(params: Params, images: int, settings: dict[bool, int]) -> float:
    """Reverse steps of all hypotheses of some images: {guided: steps}. A guided one takes as long
    as a training step (it goes through g and back), another half of that."""
    batches = -(-images // max(1, CHAINS // params.sampler.hypotheses))
    steps = settings.get(True, 0) + settings.get(False, 0) / 2
    return batches * steps / STEPS_PER_S / 3600


def image_s(F: Flops, passes: int) -> float:
    """An image through phi, `passes` times as many operations as forward: the card or the crops,
    which are cut meanwhile."""
    return max(passes * F["phi"] / CONVOLUTIONS, 1 / CROPS_PER_S)


def phi_images(params: Params, subject: Subject) -> float:
    """Images that phi's training takes, all epochs together."""
    p, sets = params.phi, TRAIN[subject]
    images = sum(sets.values()) * p.epochs[subject]
    if p.finetune and p.finetune.epochs.get(subject):
        images += sets[p.finetune.dataset] * p.finetune.epochs[subject]
    return params.prepare.phi_fraction * images


def phi_work(params: Params, F: Flops) -> Work:
    """phi of each subject."""
    return Work("phi", [phi_images(params, s) * image_s(F, 3) / 3600 for s in TRAIN], 8)


def features_work(params: Params, F: Flops) -> Work:
    """What phi did not train on, and the test images."""
    rest = 1 - params.prepare.phi_fraction
    images = [rest * sum(sets.values()) + TEST[subject] for subject, sets in TRAIN.items()]
    return Work("features", [n * image_s(F, 1) / 3600 for n in images], 8)


def search_work(params: Params, F: Flops) -> Work:
    """All systems with all settings, one after another."""
    s, hours = params.search, []
    judged = {True: (len(params.tune.gamma) + 1) * params.sampler.steps}
    judged |= {False: 2 * params.sampler.steps}
    for subject in TRAIN:
        train = sum(step_s(F, subject, system) for system in ROW_OF) * s.steps / 3600
        hours.append(len(trials(params)) * (train + sampling_hours(params, s.images, judged)))
    return Work("search", hours, 1)


def train_work(params: Params, F: Flops) -> Work:
    """Every variant and seed, and every peer."""
    systems = [*VARIANTS] * len(params.seeds) + [*PEERS]
    steps = params.g.steps
    hours = [step_s(F, s, system) * steps[s] / 3600 for s in TRAIN for system in systems]
    return Work("train, train_peer", hours, 1)


def tune_work(params: Params) -> Work:
    """Every grid of every method, the other knobs at their default."""
    t, s = params.tune, params.sampler.steps
    last = sum(t.steps) + len(t.eta) * s
    guided = 2 * last + (len(t.gamma) + len(t.direct_gamma) + len(t.r) + len(t.N)) * s
    settings = {True: guided, False: 4 * last + len(t.start_step) * s}
    one = sampling_hours(params, t.images, settings)
    return Work("tune", [one] * len(TRAIN) * len(params.seeds), 8)


def evaluate_work(params: Params) -> Work:
    """Every diffusion method, and gamma as printed, on every test image, in as many steps as the
    profile says."""
    guided = [method.at != "none" for method in METHODS.values()] + [True]
    settings = {kind: guided.count(kind) * params.sampler.steps for kind in (True, False)}
    hours = [sampling_hours(params, images, settings) for images in TEST.values()]
    return Work("evaluate, ablate", hours * len(params.seeds), 8)


def works(params: Params, F: Flops) -> list[Work]:
    """All waves, in order."""
    trained = (phi_work, features_work, search_work, train_work)
    return [*(wave(params, F) for wave in trained), tune_work(params), evaluate_work(params)]


def table(params: Params, F: Flops) -> str:
    """Markdown: what each wave takes, hours, on so many GPUs; and what is paid for."""
    head = ["stages", "jobs", "GPU-hours", *(f"hours on {n}" for n in GPUS)]
    found = works(params, F)
    rows = [
        [w.kind, str(len(w.hours)), f"{sum(w.hours):.1f}", *(f"{w.wall(n):.1f}" for n in GPUS)]
        for w in found
    ]
    total = [sum(w.wall(n) for w in found) for n in GPUS]
    paid = sum(sum(w.hours) for w in found)
    rows.append(["**together**", str(sum(len(w.hours) for w in found)), f"{paid:.0f}",
                 *(f"{hours:.0f}" for hours in total)])  # fmt: skip
    rows.append(["GPU-hours held, idle ones too", "", "",
                 *(f"{hours * n:.0f}" for hours, n in zip(total, GPUS, strict=True))])  # fmt: skip
    return "\n".join(markdown_rows(head, rows))


def summary(params: Params, F: Flops) -> str:
    """The counts behind the table, in words."""
    images = sum(phi_images(params, subject) for subject in TRAIN)
    days = 3 * F["phi"] * images / CPU_FLOPS / 86400
    image, stacked = F["body", "image"] / 1e9, F["body", "baseline_b"] / 1e9
    return (
        f"phi: {F['phi'] / 1e9:.1f} GFLOP an image, {images / 1e6:.1f} million images in training. "
        f"The card would take {1 / (3 * F['phi'] / CONVOLUTIONS):.0f} a second, two threads cut "
        f"{CROPS_PER_S:.0f}; two CPU cores would need {days:.0f} days.\n"
        f"g of bodies: {image:.0f} GFLOP a training step; Baseline B: {stacked:.0f}."
    )


def main() -> int:
    """Print the estimate."""
    params = parse(profiles.merged("licensed"), "licensed")
    F = count(params)
    print(table(params, F), summary(params, F), sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
