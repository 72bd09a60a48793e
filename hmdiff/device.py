"""Where networks run: on the accelerator if the machine has one, else on the CPU.

Data and results stay in main memory, and random numbers are drawn there, so that a seed means the
same draws on every device. Networks train, and the fast path samples, with matrix products in bf16
where there are units for it; what the study measures is computed in float32.
"""

import torch

from . import processes


def best_device() -> torch.device:
    """The machine's accelerator, or its CPU; of several processes each has its own accelerator."""
    processes.join()
    return torch.accelerator.current_accelerator() or torch.device("cpu")


def best_dtype(device: torch.device) -> torch.dtype:
    """Of matrix products: bf16 on a machine with units for it, else float32."""
    if device.type == "cuda":
        has_units = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_units = device.type == "cpu" and torch.cpu.get_capabilities().get("amx_bf16", False)
    return torch.bfloat16 if has_units else torch.float32


def mixed_precision() -> torch.autocast:
    """A context in which networks on the best device take their matrix products in `best_dtype`."""
    device = best_device()
    dtype = best_dtype(device)
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def synchronize() -> None:
    """Wait until the accelerator, if any, has done all that it was given; for timings."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
