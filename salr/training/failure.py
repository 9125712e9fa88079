"""What stops a run, in the words of its record."""

import textwrap

import torch

ADVICE = (
    "out of memory: expected a smaller dataset.batch_size, trainer.precision=bf16 or fewer trainer.workers"
)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error is an allocation that failed; on a CPU, and in CUDA's own libraries, only its words tell."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        said in words for said in ("can't allocate memory", "out of memory", "alloc_failed")
    )


def reason(error: BaseException) -> str:
    """The error in one line, and where memory ran out, what to change."""
    words = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return f"{ADVICE} ({textwrap.shorten(words, 200, placeholder=' ...')})" if out_of_memory(error) else words
