"""What hardware is there, and is it what was asked for? If not, say so before any work is done."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import torch


class DeviceError(ValueError):
    """The device that was asked for is not there; the message says what is, and what to do."""


def needs_cpu(device: str) -> bool:
    """Whether `device`, "auto", "cpu" or "cuda", comes down to the CPU here.

    Raises:
        DeviceError: "cuda", and torch sees no GPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"--device cuda asks for a GPU, {why_no_gpu()}. Use --device cpu, or auto.")
    return device == "cpu" or not torch.accelerator.is_available()


def why_no_gpu() -> str:
    built = torch.version.cuda or torch.version.hip
    if not built:
        return f"but this torch ({torch.__version__}) is built for CPUs only"
    return f"but torch {torch.__version__} sees none (is its driver installed, and CUDA_VISIBLE_DEVICES right?)"


def check_processes(processes: int) -> None:
    """Compare how many processes train together with how many were launched.

    Launched for GPUs that are not there, each process would train alone, and all would write to one folder.

    Raises:
        DeviceError: they differ.
    """
    launched = int(os.environ.get("WORLD_SIZE", 1))
    if launched != processes:
        reason = f", {why_no_gpu()}" if not torch.cuda.is_available() else ""
        raise DeviceError(
            f"{launched} processes were launched, one for each GPU{reason}: each would train alone. Add --use_cpu true "
            "to train together on CPUs, or launch as many processes as there are GPUs."
        )


def check_gpu_is_there(use_cpu: bool) -> None:
    """
    Raises:
        DeviceError: a GPU was named, as `accelerate launch` does by `gpu_ids`, and torch sees none: it would train on
            the CPU without a word.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if named not in ("", "-1") and not use_cpu and not torch.cuda.is_available():
        raise DeviceError(
            f"GPU {named} is asked for (CUDA_VISIBLE_DEVICES, or gpu_ids of accelerate's configuration), "
            f"{why_no_gpu()}. Add --use_cpu true to train on the CPU."
        )


def check_no_gpu_is_idle(device: str) -> None:
    """Compare the GPUs that torch sees with the processes that were launched on this machine: each trains on one.

    One process alone would share its batches out among all of them by DataParallel, which multiplies the batch; several
    would leave some idle.

    Args:
        device: the kind that this process trains on, such as "cuda".

    Raises:
        DeviceError: there are more GPUs than processes.
    """
    gpus, processes = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if device == "cuda" and gpus > processes:
        raise DeviceError(
            f"torch sees {gpus} GPUs, but the number of processes launched here is {processes}. Launch one for "
            f"each: accelerate launch --config_file trainer/accelerate/multi_gpu.yaml --num_processes {gpus} -m ..., or "
            f"let fewer be seen: CUDA_VISIBLE_DEVICES={','.join(map(str, range(processes)))}."
        )


def usable_cores() -> int:
    """Processor cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # mallopt's parameters in malloc.h
NEVER = -1


def keep_freed_memory() -> None:
    """From here on this process keeps the memory that it frees; does nothing where the C library is not glibc.

    glibc gives large blocks back to the system when they are freed. A step on a CPU frees and asks for the same hundred
    MiB again, and the system clears every page of them anew. The process never shrinks any more: for programs that
    compute until they end, not for one that waits for visitors.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another system, or another C library
        return
    mallopt(M_TRIM_THRESHOLD, NEVER)
    mallopt(M_MMAP_MAX, 0)


@contextmanager
def forkable_opencv(num_proc: int | None) -> Iterator[None]:
    """Around a `Dataset.map` with this `num_proc` whose function uses OpenCV.

    A forked child lacks its parent's threads, and OpenCV waits forever when their number is changed there. So it is set
    to 1 before the fork: processes share the cores best with one thread each. Without `num_proc` nothing is forked or
    changed.
    """
    threads = cv2.getNumThreads()
    if num_proc:
        cv2.setNumThreads(1)
    try:
        yield
    finally:
        if num_proc:
            cv2.setNumThreads(threads)
