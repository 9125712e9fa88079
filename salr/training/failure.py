"""Why a run has failed, in the words of its record."""

import textwrap

import torch

ADVICE = "out of memory: try a smaller dataset.batch_size, trainer.precision=bf16 or fewer trainer.workers"
_MESSAGES = ("can't allocate memory", "out of memory", "alloc_failed")


def out_of_memory(error: BaseException) -> bool:
    """Return whether an allocation has failed."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # The allocator of the CPU and the libraries of CUDA raise a plain RuntimeError.
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(message in text for message in _MESSAGES)


def reason(error: BaseException) -> str:
    """Return the error in one line. If memory ran out, the line says what to change."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return f"{ADVICE} ({textwrap.shorten(text, 200, placeholder=' ...')})" if out_of_memory(error) else text
