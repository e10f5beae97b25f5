"""How large a network may be: counted while it is built, and compared with its weights before it takes memory.

A config.json of a few hundred bytes can describe a network of any size, and its weights may be those of a small one.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from .errors import AgeGenderError
from .model_files import ModelFileError, ModelWeightsError, stays_inside


MAX_MODULES = 3_000  # the largest vision networks of transformers have about 1,100
MAX_PARAMETERS = 2_000_000_000  # 8 GB
SPARE_PARAMETERS = 1_000_000  # so many may be missing in a file: what is missing is named later


class NetworkTooLargeError(AgeGenderError):
    """The configuration describes a network that is not built."""


@contextmanager
def bounded_network() -> Iterator[None]:
    """Count the modules and parameters of what this thread builds in the block; on the meta device that takes no memory.

    Raises:
        NetworkTooLargeError: there are more than `MAX_MODULES` or `MAX_PARAMETERS`.
    """
    thread, modules, parameters = threading.get_ident(), 0, 0

    def count_module(parent: nn.Module, name: str, module: nn.Module | None) -> None:
        nonlocal modules
        modules += threading.get_ident() == thread
        if modules > MAX_MODULES:
            raise NetworkTooLargeError(f"it has more than {MAX_MODULES:,} layers and parts of layers.")

    def count_parameter(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal parameters
        if threading.get_ident() == thread and parameter is not None:
            parameters += parameter.numel()
        if parameters > MAX_PARAMETERS:
            raise NetworkTooLargeError(f"it has more than {MAX_PARAMETERS:,} parameters.")

    hooks = [
        register_module_module_registration_hook(count_module),
        register_module_parameter_registration_hook(count_parameter),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class ChecksWeightFiles:
    """Mixed into a `PreTrainedModel`, it compares the files with the network before transformers fills what they lack.

    transformers calls the method when the files are there and the network is on the meta device still. It is a private one:
    https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/modeling_utils.py#L4480
    """

    @classmethod
    def _load_pretrained_model(
        cls, model: nn.Module, state_dict: Any, checkpoint_files: list[str] | None, load_config: Any, *args: Any
    ) -> Any:
        """
        Raises:
            ModelWeightsError: the network has more parameters than the files have bytes.
            ModelFileError: a file, of those that a list of shards names, lies outside the folder.
        """
        paths, folder = [Path(file) for file in checkpoint_files or ()], Path(load_config.pretrained_model_name_or_path)
        for path in paths:
            if folder.is_dir() and not stays_inside(path, folder):
                raise ModelFileError(f"{path.name} lies outside the folder {folder}. Put the file itself there.")
        parameters = sum(one.numel() for one in model.parameters())
        size = sum(path.stat().st_size for path in paths)
        if paths and parameters > size + SPARE_PARAMETERS:
            raise ModelWeightsError(
                f"The weights of {folder} do not fit its configuration: it describes a network of {parameters:,} parameters, "
                f"and their files have {size:,} bytes. Is the folder that of a finished run?"
            )
        return super()._load_pretrained_model(model, state_dict, checkpoint_files, load_config, *args)  # type: ignore[misc]
