"""Train two steps on one repeated picture, and save the batches that the model of each process received.

accelerate launch --config_file trainer/accelerate/cpu.yaml -m tests.support.seen_pictures FOLDER
"""

import sys
from pathlib import Path

import torch

from tests.support.made_up_faces import draw_face
from tests.support.tiny_model import IMAGE_SIZE, tiny_model
from trainer.arguments import RunArguments
from trainer.data.transforms import AugmentationArguments, BatchTransform, collate_faces
from trainer.trainer import AgeGenderTrainer


def see(folder: Path) -> torch.Tensor:
    """(steps, B, 3, S, S): the augmented pictures of two steps of four, also saved as FOLDER/process_I_of_N.pt."""
    model, seen = tiny_model(), []
    model.register_forward_pre_hook(
        lambda module, args, inputs: seen.append(inputs["pixel_values"].clone()), with_kwargs=True
    )
    row = {"pixels": draw_face(30, 0, seed=0, size=IMAGE_SIZE).tobytes(), "age": 30, "gender": 0}
    args = RunArguments(
        output_dir=str(folder / "run"),
        use_cpu=True,
        per_device_train_batch_size=4,
        max_steps=2,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    AgeGenderTrainer(
        model=model,
        args=args,
        train_dataset=[row] * 16,
        data_collator=collate_faces,
        batch_transform=BatchTransform(IMAGE_SIZE, [0.5] * 3, [0.5] * 3, AugmentationArguments()),
    ).train()
    torch.save(torch.stack(seen), folder / f"process_{args.process_index}_of_{args.world_size}.pt")
    return torch.stack(seen)


if __name__ == "__main__":
    see(Path(sys.argv[1]))
