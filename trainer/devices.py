"""The hardware of this process: which GPUs and cores it has, whether they are those that were asked for, how it uses memory and
threads, and how a model trains fastest on a CPU.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from model.backbones import choose_memory_format
from model.errors import AgeGenderError


class DeviceError(AgeGenderError):
    """The device that was asked for is not there; the message says what is, and what to do."""


def choose_device(name: str) -> torch.device:
    """The device that "auto", "cpu" or "cuda" means on this machine.

    Raises:
        DeviceError: "cuda", and torch sees no GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"--device cuda asks for a GPU, {why_no_gpu()}. Use --device cpu, or auto.")
    accelerator = torch.accelerator.current_accelerator(check_available=True) if name != "cpu" else None
    return accelerator or torch.device("cpu")


def why_no_gpu() -> str:
    if not (torch.version.cuda or torch.version.hip):
        return f"but this torch ({torch.__version__}) is built for CPUs only"
    return f"but torch {torch.__version__} sees none (is its driver installed, and CUDA_VISIBLE_DEVICES right?)"


def check_gpu_is_there(use_cpu: bool) -> None:
    """
    Raises:
        DeviceError: a GPU was named, as `accelerate launch` does for `gpu_ids`, and torch sees none. The Trainer would
            silently train on the CPU.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if named not in ("", "-1") and not use_cpu and not torch.cuda.is_available():
        raise DeviceError(
            f"GPU {named} is asked for (CUDA_VISIBLE_DEVICES, or gpu_ids of accelerate's configuration), "
            f"{why_no_gpu()}. Add --use_cpu true to train on the CPU."
        )


def has_bf16(device: str | torch.device) -> bool:
    """Whether this processor, or this GPU, has instructions for bfloat16; torch emulates it on others."""
    if torch.device(device).type == "cpu":
        return any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.device(device).type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def emulation_warning(device: str | torch.device, *, bf16: bool, int8: bool) -> str:
    """What --bf16, or an ONNX file with 8-bit weights, costs on hardware without instructions for it; "" where it has them."""
    if bf16 and not has_bf16(device):
        on_cpu = torch.device(device).type == "cpu"
        hardware, much, hint = ("processor", "much ", ", or use a GPU") if on_cpu else ("GPU", "", "")
        return (
            f"This {hardware} has no bfloat16: --bf16 computes nearly the same answers, and {much}slower than without it. "
            f"Leave it out{hint}."
        )
    has = torch.cpu.get_capabilities()
    if int8 and has.get("architecture") == "x86_64" and not any(has.get(name) for name in ("avx512_vnni", "avx_vnni")):
        return (
            "This processor has no VNNI: sums of 8-bit products can overflow, so answers may differ more from the model's "
            "than its card states. Use the fp32 file where that matters."
        )
    return ""


def check_processes(processes: int) -> None:
    """Compare the number of processes that train together with the number that was launched.

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


def check_no_gpu_is_idle(device: str) -> None:
    """Compare the number of GPUs that torch sees with the processes launched on this machine: each trains on one.

    A single process would split its batches over all GPUs by DataParallel, which multiplies the batch size; several
    processes would leave GPUs idle.

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


def is_sharded() -> bool:
    """Whether the processes share the weights out by FSDP, as transformers and `accelerate launch` say."""
    return os.environ.get("ACCELERATE_USE_FSDP") == "true"


def usable_cores() -> int:
    """Processor cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# Parameters of mallopt in glibc's malloc.h: https://man7.org/linux/man-pages/man3/mallopt.3.html
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
NEVER_TRIM, NO_MMAP = -1, 0


def keep_freed_memory() -> None:
    """Make malloc keep freed memory until this process ends. Without effect where the C library is not glibc.

    For commands that compute on a CPU, and only there, since it holds for the whole process. glibc returns large blocks
    to the system when they are freed; a training step frees and allocates the same hundred MiB again, and the system
    clears every page anew. A server should not call this: its memory would never shrink.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return
    mallopt(M_TRIM_THRESHOLD, NEVER_TRIM)
    mallopt(M_MMAP_MAX, NO_MMAP)


@contextmanager
def forkable_opencv(num_proc: int | None) -> Iterator[None]:
    """Set OpenCV to one thread around a `Dataset.map` that forks `num_proc` processes; no effect without `num_proc`.

    A forked child lacks its parent's threads: OpenCV hangs as soon as it uses its thread pool there
    (https://github.com/opencv/opencv/issues/5150). One thread each is also the fastest way to share the cores.
    """
    if not num_proc:
        yield
        return
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def suit_cpu(model: PreTrainedModel, device: torch.device, bf16: bool) -> None:
    """Choose memory format, attention and depthwise convolutions of `model` by what a CPU computes faster, if `device` is one.

    In bf16 torch's fused attention is slow, above all backwards: a third of ViT-Tiny's time at 112 pixels. So are strided
    depthwise convolutions.
    """
    choose_memory_format(model, device)
    if bf16 and device.type == "cpu":
        model.set_attn_implementation("eager")
        train_strided_depthwise_at_stride_one(model)


class StridedDepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution that is trained at stride 1, of whose outputs those of its own stride are kept.

    oneDNN computes the gradients of a strided depthwise convolution in bf16 by its reference code, which took 440 of the
    1,200 ms of a MobileNetV1 step with 64 pictures of 112 pixels. At stride 1 it has fast code, and the outputs are the
    same: four times the products, yet a third less time a step.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(input)
        every = F.conv2d(input, self.weight, self.bias, 1, self.padding, self.dilation, self.groups)
        rows, columns = self.stride
        return every[:, :, ::rows, ::columns].contiguous(memory_format=torch.channels_last)


def train_strided_depthwise_at_stride_one(model: nn.Module) -> None:
    """Make every depthwise convolution of `model` that has a stride a `StridedDepthwiseConv2d`. Weights stay as they are."""
    for module in model.modules():
        if type(module) is not nn.Conv2d or not module.groups == module.in_channels > 1:
            continue
        if max(module.stride) > 1 and module.padding_mode == "zeros":
            module.__class__ = StridedDepthwiseConv2d
