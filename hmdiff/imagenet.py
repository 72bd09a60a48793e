"""Weights of HRNet that others trained on ImageNet, into the backbone phi_I.

Read are the official checkpoint (hrnetv2_w64_imagenet_pretrained.pth), timm's `hrnet_w64`, and the
networks of METRO, Mesh Graphormer and FastMETRO, whose backbone is the same HRNet trained further.
All of them name its tensors as we do; what differs is what stands before and beside the names.
Every tensor is accounted for: it is loaded, or belongs to the classifier or to the rest of a larger
network, or the file is refused.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from .hrnet import HRNet

WRAPPERS = ("state_dict", "model")  # under which training checkpoints keep their weights
CLASSIFIER = "classifier."
COUNTER = "num_batches_tracked"  # of a batch norm; old files lack it, and nothing here reads it
NAMES = 5  # that a message lists


def load_imagenet(backbone: HRNet, path: str | Path) -> None:
    """Replace the backbone's weights by those of a file (.pth, .bin or .safetensors).

    Prints one line: how many tensors were loaded and how many left out. After an error the backbone
    is as it was.

    Raises:
        FileNotFoundError, ValueError: one line that names the file, the fault and the remedy.
    """
    path = Path(path)
    given, outside = _backbone(_read(path))
    head = {name for name in given if name.startswith(CLASSIFIER)}
    weights = {n: w for n, w in given.items() if n not in head and not n.endswith(COUNTER)}
    own = {n: w for n, w in backbone.state_dict().items() if not n.endswith(COUNTER)}
    faults = {
        "lacks": own.keys() - weights.keys(),
        "has unknown": weights.keys() - own.keys(),
        "has other shapes of": {
            n for n in own.keys() & weights.keys() if own[n].shape != weights[n].shape
        },
    }
    if any(faults.values()):
        found = ", ".join(f"{verb} {_listed(names)}" for verb, names in faults.items() if names)
        raise ValueError(
            f"{path}: {found}; HRNet-W64's weights fit phi.width 64, blocks 4, modules [1, 4, 3], "
            "context_channels 2048"
        )
    backbone.load_state_dict(weights, strict=False)  # the counters stay
    print(
        f"{path}: {len(weights)} tensors loaded; left out {len(head)} of the classifier, "
        f"{outside} outside the backbone"
    )


def _read(path: Path) -> dict[str, Tensor]:
    """The file's tensors by name."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such weights; copy them there")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises many kinds, with many lines
        reason = " ".join(str(error).split())[:120]
        raise ValueError(
            f"{path}: not a file of weights alone ({reason}); get it again, or save its state_dict"
        ) from None
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and torch.is_tensor(tensor) for name, tensor in content.items()
    ):
        raise ValueError(f"{path}: holds other things than tensors by name; save its state_dict")
    return content


def _backbone(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    """The backbone's tensors by official name, and how many tensors stand outside it.

    `module.` is what training on several GPUs puts before every name. In a larger network the
    backbone is `backbone.`; beside it stand `trans_encoder.`, `upsampling.` and the like.
    """
    weights = {name.removeprefix("module."): tensor for name, tensor in weights.items()}
    inside = {n: w for n, w in weights.items() if n.startswith("backbone.")}
    if not inside:
        return weights, 0
    return {n.removeprefix("backbone."): w for n, w in inside.items()}, len(weights) - len(inside)


def _listed(names: set[str]) -> str:
    """The number of names and the first few of them."""
    more = ", ..." if len(names) > NAMES else ""
    return f"{len(names)} ({', '.join(sorted(names)[:NAMES])}{more})"
