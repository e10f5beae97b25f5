"""Embeddings of pictures by another network: as a file, matched with the training pictures by file name, and predicted by an
auxiliary head, which shapes the backbone and is thrown away.
"""

import copy
import logging
import math
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import nn

from model.configuration_age_gender import AgeGenderConfig
from model.modeling_age_gender import AgeGenderModel, AgeGenderOutput
from trainer.recipe import RecipeError


NAMES = "_names"
# What zipfile and numpy raise of an .npz file that is damaged, encrypted (RuntimeError), another kind of file, or none.
UNREADABLE = (
    *(OSError, ValueError, LookupError, TypeError, RuntimeError, EOFError, MemoryError, OverflowError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
MAX_ARRAY_BYTES = 2**32  # of an .npz file: 128 numbers each of ten million pictures, with their names
logger = logging.getLogger(__name__)

HEAD = "embedding_head."
SIZE = "embedding_size"  # in the configuration of a checkpoint


def read_embeddings(path: str | Path, file_names: Sequence[str]) -> np.ndarray:
    """(N, size) float16: each picture's embedding, every number standardised over them; NaN where there is none.

    Args:
        path: an .npz file with arrays SET (M, size) and SET_names (M,) for each set of pictures.
        file_names: of the pictures, as paths in which SET is a folder, such as `UTKFace/1_0_0_2017.jpg`; where it is none,
            the only set that has the name is taken.

    Raises:
        RecipeError: no such file, arrays of other shapes, or no embedding for more than half of the pictures.
    """
    sets = read_embedding_sets(path)
    sizes = {values.shape[1] for _, values in sets.values()}
    if len(sizes) != 1:
        raise RecipeError(f"embeddings: all sets of {path} must have embeddings of one size, got {sorted(sizes)}.")
    found = np.full((len(file_names), sizes.pop()), np.nan, dtype=np.float32)
    for row, file_name in enumerate(file_names):
        *folders, name = PurePosixPath(file_name).parts
        having = [key for key, (index, _) in sets.items() if name in index]
        named = [key for key in having if key in folders] or having
        if len(named) == 1:
            index, values = sets[named[0]]
            found[row] = values[index[name]]
    known = ~np.isnan(found).any(axis=1)
    missing = np.flatnonzero(~known)
    if len(missing) > len(found) / 2:
        raise RecipeError(
            f"embeddings: {path} has none for {len(missing)} of {len(found)} training pictures, such as "
            f"{file_names[missing[0]]}. It has file names of {', '.join(sets)}, which must be the names of these pictures."
        )
    if len(missing):
        logger.warning(f"{len(missing)} of {len(found)} training pictures have no embedding: they teach labels only.")
    mean, std = found[known].mean(axis=0), found[known].std(axis=0)
    return ((found - mean) / np.maximum(std, 1e-6)).astype(np.float16)


def read_embedding_sets(path: str | Path) -> dict[str, tuple[dict[str, int], np.ndarray]]:
    """{set: (row by file name, (M, size) embeddings)}.

    Raises:
        RecipeError: no such file, or arrays of other shapes.
    """
    sets = {}
    try:
        check_arrays(path)
        with np.load(path) as file:
            for name in (name.removesuffix(NAMES) for name in file.files if name.endswith(NAMES)):
                names, values = file[name + NAMES].astype(str), file[name].astype(np.float32)
                if values.ndim != 2 or len(names) != len(values):
                    raise RecipeError(
                        f"embeddings: {path} has {len(names)} names in {name}{NAMES} and an array {name} of shape "
                        f"{values.shape}: expected (names, size)."
                    )
                sets[name] = ({one: row for row, one in enumerate(names.tolist())}, values)
    except UNREADABLE as error:
        if isinstance(error, RecipeError):
            raise
        raise RecipeError(f"embeddings: {path} cannot be read: {type(error).__name__}: {error}.") from error
    if not sets:
        raise RecipeError(f"embeddings: {path} names no set: expected arrays such as UTKFace and UTKFace{NAMES}.")
    return sets


def check_arrays(path: str | Path) -> None:
    """Before an .npz file is read: that each array is as large as it claims, and that all of them are no more than are read.

    Raises:
        ValueError: they are not. OSError, zipfile.BadZipFile: the file cannot be read.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if (total := sum(member.file_size for member in members)) > MAX_ARRAY_BYTES:
            raise ValueError(f"its arrays have {total:,} bytes, and no more than {MAX_ARRAY_BYTES:,} are read")
        for member in members:
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                read_header = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read_header(file)
                claimed, held = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
            if claimed != held:
                raise ValueError(f"{member.filename} claims {claimed:,} bytes and holds {held:,}")


class AgeGenderEmbeddingModel(AgeGenderModel):
    """Learns embeddings of another network beside age and gender. What is saved after the training has two heads."""

    _auto_class = None  # only checkpoints hold it: nobody loads its code from the Hub
    embedding_loss_weight = 1.0

    def __init__(self, config: AgeGenderConfig):
        """
        Args:
            config: with a value `embedding_size` beside its own.
        """
        super().__init__(config)
        self.embedding_head = nn.Linear(self.age_head.in_features, getattr(config, SIZE))
        self.post_init()

    @classmethod
    def around(cls, model: AgeGenderModel, size: int, loss_weight: float) -> "AgeGenderEmbeddingModel":
        """`model` with an untrained head for embeddings of `size` numbers."""
        config = copy.deepcopy(model.config)
        setattr(config, SIZE, size)
        three_headed = cls(config)
        three_headed.load_state_dict(model.state_dict(), strict=False)
        three_headed.embedding_loss_weight = loss_weight
        return three_headed

    def forward(
        self,
        pixel_values: torch.Tensor,
        age_labels: torch.Tensor | None = None,
        gender_labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        embeddings: torch.Tensor | None = None,
    ) -> AgeGenderOutput:
        """
        Args:
            embeddings: (B, size), standardised; NaN where there is none. Read in training only, where the loss grows by
                `embedding_loss_weight` times the mean squared error.
        """
        pooled: list[torch.Tensor] = []
        with self.dropout.register_forward_hook(lambda module, inputs, output: pooled.append(output)):
            output = super().forward(pixel_values, age_labels, gender_labels, output_hidden_states, output_attentions)
        if self.training and embeddings is not None and output.loss is not None:
            loss = embedding_loss(self.embedding_head(pooled[0]), embeddings)
            output.loss = output.loss + self.embedding_loss_weight * loss
        return output

    def without_head(self, weights: dict[str, torch.Tensor]) -> AgeGenderModel:
        """The model that is measured and published, with `weights` of this one."""
        config = copy.deepcopy(self.config)
        delattr(config, SIZE)
        model = AgeGenderModel(config)
        model.load_state_dict({name: values for name, values in weights.items() if not name.startswith(HEAD)})
        return model


def embedding_loss(predicted: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
    """Mean squared error over the faces that have an embedding; 0 (with a gradient) where a batch has none."""
    known = ~embeddings.isnan().any(dim=1)
    errors = (predicted.float() - embeddings.nan_to_num()).square().mean(dim=1)
    return (errors * known).sum() / known.sum().clamp(min=1)
