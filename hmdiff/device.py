"""Where networks run: on the accelerator if the machine has one, else on the CPU.

Data and results stay in main memory, and random numbers are drawn there, so that a seed means the
same draws on every device.
"""

import torch

from . import processes


def best_device() -> torch.device:
    """The machine's accelerator, or its CPU; of several processes each has its own accelerator."""
    processes.join()
    return torch.accelerator.current_accelerator() or torch.device("cpu")


def synchronize() -> None:
    """Wait until the accelerator, if any, has done all that it was given; for timings."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
