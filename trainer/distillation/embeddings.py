"""Embeddings of pictures by another network, as a file, matched with the training pictures by file name."""

import logging
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from trainer.recipe import RecipeError


NAMES = "_names"

logger = logging.getLogger(__name__)


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
        with np.load(path) as file:
            for name in (name.removesuffix(NAMES) for name in file.files if name.endswith(NAMES)):
                names, values = file[name + NAMES].astype(str), file[name].astype(np.float32)
                if values.ndim != 2 or len(names) != len(values):
                    raise RecipeError(
                        f"embeddings: {path} has {len(names)} names in {name}{NAMES} and an array {name} of shape "
                        f"{values.shape}: expected (names, size)."
                    )
                sets[name] = ({one: row for row, one in enumerate(names.tolist())}, values)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        if isinstance(error, RecipeError):
            raise
        raise RecipeError(f"embeddings: {path} cannot be read: {type(error).__name__}: {error}.") from error
    if not sets:
        raise RecipeError(f"embeddings: {path} names no set: expected arrays such as UTKFace and UTKFace{NAMES}.")
    return sets
