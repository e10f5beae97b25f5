"""What one face costs: the time that the network takes on one core of this machine's processor."""

import copy
import time
from statistics import median
from typing import Any

import torch

from model.modeling_age_gender import AgeGenderModel
from trainer.run_record import cpu_name


WARM_UP, TIMED = 5, 30  # forward passes


def network_cost(model: AgeGenderModel) -> dict[str, Any]:
    """`milliseconds_on_one_core`, the median of 30 passes of one face in fp32, and which `processor` that is.

    The mirror image is included where the model averages over both; finding and cutting out the face is not.
    """
    on_cpu = copy.deepcopy(model).cpu().float().eval()
    pixel_values = torch.zeros(1, 3, model.config.image_size, model.config.image_size)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = [_seconds(on_cpu, pixel_values) for _ in range(WARM_UP + TIMED)][WARM_UP:]
    finally:
        torch.set_num_threads(threads)
    return {"milliseconds_on_one_core": round(1000 * median(seconds), 1), "processor": cpu_name()}


def _seconds(model: AgeGenderModel, pixel_values: torch.Tensor) -> float:
    start = time.perf_counter()
    with torch.inference_mode():
        model(pixel_values)
    return time.perf_counter() - start
