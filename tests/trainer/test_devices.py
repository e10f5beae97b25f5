"""GPUs that are there and that no process would use."""

import pytest
import torch

from trainer.devices import DeviceError, check_no_gpu_is_idle, choose_device, emulation_warning


@pytest.mark.parametrize(
    ("gpus", "processes", "device", "shown"),
    [
        (8, None, "cuda", "0"),  # torch's DataParallel, unless it is refused
        (8, 2, "cuda", "0,1"),
        (8, 8, "cuda", None),
        (1, None, "cuda", None),
        (8, 2, "cpu", None),
        (0, 2, "cpu", None),
    ],
)
def test_each_gpu_has_a_process(monkeypatch, gpus, processes, device, shown):
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if processes:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    if shown is None:
        check_no_gpu_is_idle(device)
        return
    with pytest.raises(DeviceError, match=rf"sees 8 GPUs.*launched here is {processes or 1}\.") as error:
        check_no_gpu_is_idle(device)
    assert "--config_file trainer/accelerate/multi_gpu.yaml --num_processes 8 " in str(error.value)
    assert str(error.value).endswith(f"CUDA_VISIBLE_DEVICES={shown}.")


@pytest.mark.parametrize("built_for", [None, torch.device("cuda")])
def test_a_torch_that_is_built_for_gpus_computes_on_the_cpu_where_there_is_none(monkeypatch, built_for):
    monkeypatch.setattr("torch._C._accelerator_getAccelerator", lambda: built_for)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(DeviceError, match=r"^--device cuda asks for a GPU, .*Use --device cpu, or auto\.$"):
        choose_device("cuda")


def test_a_gpu_is_used_where_there_is_one(monkeypatch):
    monkeypatch.setattr("torch._C._accelerator_getAccelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda")
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("has", "options", "told"),
    [
        (
            {},
            {"bf16": True, "int8": False},
            "This processor has no bfloat16: --bf16 computes nearly the same answers, and much ",
        ),
        ({"avx512_bf16": True}, {"bf16": True, "int8": False}, ""),
        ({"amx_bf16": True}, {"bf16": True, "int8": False}, ""),
        ({"architecture": "x86_64"}, {"bf16": False, "int8": True}, "This processor has no VNNI"),
        ({"architecture": "x86_64", "avx_vnni": True}, {"bf16": False, "int8": True}, ""),
        ({"architecture": "aarch64"}, {"bf16": False, "int8": True}, ""),
        ({}, {"bf16": False, "int8": False}, ""),
    ],
)
def test_hardware_without_the_instructions_is_told(monkeypatch, has, options, told):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: has)
    warning = emulation_warning("cpu", **options)
    assert warning.startswith(told)
    assert bool(warning) == bool(told)
