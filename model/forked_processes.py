"""Processes that are forked after a model was used (gunicorn --preload, Celery): its threads stay behind in the parent."""

import os
from functools import cache

import torch
from transformers.utils import logging


logger = logging.get_logger(__name__)


class ForkCheck:
    """Tells, once in each process, that it was forked from the one in which this was made or last asked."""

    def __init__(self) -> None:
        self._process = os.getpid()

    def was_forked(self) -> bool:
        before, self._process = self._process, os.getpid()
        return before != self._process


@cache
def _since_first_use() -> ForkCheck:
    """Made when a pipeline is used for the first time; a spawned process makes its own."""
    return ForkCheck()


def compute_without_lost_threads() -> None:
    """In a process that was forked after a pipeline was used, let torch compute with one thread.

    Work for several of its threads would wait for ever: https://github.com/pytorch/pytorch/issues/17199.
    """
    if _since_first_use().was_forked() and torch.get_num_threads() > 1:
        torch.set_num_threads(1)
        logger.warning(
            "This process was forked after the pipeline was used, so torch computes with one thread. For more, load the "
            "pipeline in each worker (gunicorn without --preload), or start workers by spawn."
        )
