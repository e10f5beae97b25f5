"""GPUs that are there and that no process would use."""

import pytest

from trainer.devices import DeviceError, check_no_gpu_is_idle


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
