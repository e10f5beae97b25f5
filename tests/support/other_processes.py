"""The same pipeline in a process that is forked after it was used, and in one that is spawned; prints what they answer.

python -m tests.support.other_processes fork
"""

import multiprocessing
import sys

import numpy as np
import torch
from skimage.data import astronaut
from transformers import AutoImageProcessor

from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline


SECONDS = 240  # a loaded machine takes long; threads that do not exist take for ever
CROWD = np.tile(astronaut(), (3, 3, 1))  # enough work that torch shares it out


def answer(pipe: AgeGenderPipeline, answers: multiprocessing.Queue) -> None:
    answers.put([[round(face["age"], 3) for face in pipe(CROWD)], torch.get_num_threads()])


if __name__ == "__main__":
    torch.set_num_threads(4)
    pipe = AgeGenderPipeline(
        model=AgeGenderModel.from_pretrained("model"), image_processor=AutoImageProcessor.from_pretrained("model")
    )
    print([round(face["age"], 3) for face in pipe(CROWD)])
    context = multiprocessing.get_context(sys.argv[1])
    answers = context.Queue()
    child = context.Process(target=answer, args=(pipe, answers), daemon=True)
    child.start()
    print(*answers.get(timeout=SECONDS), sep="\n")
