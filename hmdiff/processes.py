"""One stage on several processes, of one machine or of many, which `accelerate launch` starts.

All of them run the same code on the same data and draw the same random numbers. What is spread is
samples: each process takes its share of every batch that trains and of the images that are
measured, and what the shares give is put together again. So the result is one process's, up to the
order in which floating-point numbers are added. The first process alone writes files. One that was
started by itself is the first of one, and nothing here changes a bit of what it computes.
"""

import os
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

WAIT = timedelta(hours=2)  # for the others; the first may write large files meanwhile


def count() -> int:
    """How many processes there are."""
    return int(os.environ["WORLD_SIZE"]) if dist.is_torchelastic_launched() else 1


def rank() -> int:
    """This one's number, from 0."""
    return int(os.environ["RANK"]) if dist.is_torchelastic_launched() else 0


def first() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


@cache
def join() -> None:
    """Meet the others, if any, and make an accelerator of one's own the current one: before
    anything is exchanged, or put on an accelerator."""
    if count() > 1:
        from accelerate import PartialState

        PartialState(cpu=not torch.accelerator.is_available(), timeout=WAIT)


def wait() -> None:
    """Until all processes are here."""
    if count() > 1:
        join()
        dist.barrier()


def shares(n: int, parts: int) -> list[slice]:
    """n items in `parts` contiguous shares, in order, whose sizes differ by one at most."""
    ends = [n * i // parts for i in range(parts + 1)]
    return [slice(*pair) for pair in pairwise(ends)]


def mine(items: Sequence | Tensor) -> Any:
    """This process's share of a sequence, or of a tensor's first dimension; it may be empty."""
    return items[shares(len(items), count())[rank()]]


def together(own: list) -> list:
    """Every process's results, in order; all get all. Tensors have to lie in main memory."""
    if count() == 1:
        return own
    from accelerate.utils import gather_object

    join()
    return gather_object(own)


def agree(value: Any) -> Any:
    """What the first process was given."""
    if count() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    join()
    return broadcast_object_list([value])[0]


def check_share(size: int, key: str) -> None:
    """ValueError where what the processes share, such as a batch, has too few samples for them."""
    if size < count():
        fault = f"{size} samples cannot be spread over {count()} processes"
        raise ValueError(f"params.yaml: {key}: {fault}; start {size} or fewer")


class Total(torch.autograd.Function):
    """The sum of a tensor over the processes; so is its gradient's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Any shape in, the same out."""
        from accelerate.utils import reduce

        join()
        return reduce(x, "sum")

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Every process's loss hangs on the sum."""
        return Total.apply(gradient)


def portion(mean: Tensor, n: int | Tensor) -> Tensor:
    """What a mean over this process's n elements adds to the mean over all processes' elements."""
    if count() == 1:
        return mean
    n = torch.as_tensor(n, dtype=mean.dtype, device=mean.device)
    return mean * (n / Total.apply(n).clamp(min=1))


def whole(part: Tensor) -> Tensor:
    """The mean whose portions the processes hold."""
    return part if count() == 1 else Total.apply(part)


def backward(loss: Tensor, net: nn.Module) -> Tensor:
    """Give the parameters the gradients of the loss's sum over the processes; returns that sum."""
    loss.backward()
    if count() == 1:
        return loss.detach()
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    flat = torch.cat([loss.detach().reshape(1), *(g.reshape(-1) for g in gradients)])
    whole, *parts = Total.apply(flat).split([1, *(g.numel() for g in gradients)])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view(gradient.shape))
    return whole[0]


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation by the statistics of all processes' parts of the batch.

    `nn.SyncBatchNorm` does that on accelerators only.
    """

    def forward(self, x: Tensor) -> Tensor:
        """B x C x H x W in, the same out."""
        if not self.training:
            return super().forward(x)
        n = Total.apply(x.new_tensor(x.numel() / x.shape[1]))
        mean = Total.apply(x.sum((0, 2, 3))) / n
        x = x - mean[:, None, None]
        variance = Total.apply(x.square().sum((0, 2, 3))) / n
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return x * scale[:, None, None] + self.bias[:, None, None]


def share_statistics(net: nn.Module) -> nn.Module:
    """A network whose batch normalisation sees the whole batch, with the same parameters."""
    if count() == 1:
        return net
    if torch.accelerator.is_available():
        return nn.SyncBatchNorm.convert_sync_batchnorm(net)
    for module in net.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm
    return net
