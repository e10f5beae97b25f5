"""What `training` and `loader` measure: this trainer, and the image-classification example of transformers beside it."""

import io
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import DatasetDict
from datasets import Image as ImageFeature
from PIL import Image
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
)

from model.configuration_age_gender import AgeGenderConfig
from model.modeling_age_gender import AgeGenderModel
from scripts.benchmarks.measuring import Clock
from trainer.arguments import RunArguments
from trainer.data.arguments import DataArguments
from trainer.data.loading import load_faces
from trainer.data.preparation import write_parquet
from trainer.data.transforms import AugmentationArguments, BatchTransform, collate_faces, decode_faces
from trainer.trainer import AgeGenderTrainer


WARM_UP_STEPS = 3
MEAN = STD = [0.5, 0.5, 0.5]
BACKBONES: dict[str, dict[str, Any]] = {
    "vit_tiny": {"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3, "intermediate_size": 768},
    "vit_base": {},  # the default of ViTConfig
}


@dataclass(frozen=True)
class Arm:
    """One measured training: which trainer, in which precision, on which data."""

    name: str
    data: Path
    backbone: str
    image_size: int
    batch_size: int
    steps: int  # timed, after WARM_UP_STEPS that are not
    workers: int
    example: bool = False
    bf16: bool = True
    use_cpu: bool = False
    streaming: bool = False
    torch_compile: bool = False
    growing: bool = False
    cpu_time: bool = False
    waits_for_gpu: bool = True  # after each phase, to time it alone


def write_pictures(folder: Path, count: int) -> Path:
    """Fill `folder` with made-up JPEGs of 200 x 200 pixels, about as large as UTKFace's and named as they are."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for index in range(count):
        coarse, fine = (
            Image.fromarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8)).resize((200, 200))
            for side in (4, 24)
        )
        shapes = Image.blend(coarse, fine, 0.4)
        pixels = np.clip(np.asarray(shapes) + generator.normal(0, 6, (200, 200, 1)), 0, 255).astype(np.uint8)
        name = f"{generator.integers(1, 90)}_{generator.integers(0, 2)}_0_2017010912{index:07d}.jpg"
        Image.fromarray(pixels).save(folder / name, quality=90)
    return folder


def prepare(dataset: str | None, pictures: int, folder: Path) -> dict[Path, int]:
    """Clean, group and split once for all arms, and write a tenth of the set and the whole as parquet.

    Returns:
        The folders, the tenth first, and how many training faces each has.
    """
    if dataset is None:
        faces = load_faces(DataArguments(str(write_pictures(folder / "pictures", pictures))), seed=0)
    else:
        faces = load_faces(DataArguments(dataset, max_samples=pictures), seed=0)
    tenth = DatasetDict({name: rows.select(range(-(-len(rows) // 10))) for name, rows in faces.items()})
    for splits, name in ((tenth, "tenth"), (faces, "whole")):
        write_parquet(splits, folder / name / "data", shard_size=len(tenth["train"]))  # a larger set has more files
    return {folder / "tenth": len(tenth["train"]), folder / "whole": len(faces["train"])}


def build_trainer(arm: Arm, folder: str, clock: Clock) -> tuple[Trainer, float]:
    """The trainer of `arm` with its training faces, and the seconds a face that decoding took before training."""
    faces = load_faces(DataArguments(str(arm.data), cache_dir=folder, streaming=arm.streaming), seed=0)
    faces = type(faces)(train=faces["train"])
    if arm.example:
        return _example_trainer(arm, folder, faces, clock), 0.0
    start = clock.now()
    decoded = decode_faces(faces, arm.image_size, arm.image_size * 8 // 7)  # 128 for 112, as the recipe keeps them
    decode_once = 0.0 if arm.streaming else (clock.now() - start) / len(faces["train"])
    return _trainer(arm, folder, decoded, clock), decode_once


def _training_arguments(arm: Arm, folder: str) -> TrainingArguments:
    kind = TrainingArguments if arm.example else RunArguments
    return kind(
        output_dir=folder,
        per_device_train_batch_size=arm.batch_size,
        max_steps=WARM_UP_STEPS + arm.steps,
        bf16=arm.bf16,
        use_cpu=arm.use_cpu,
        torch_compile=arm.torch_compile,
        dataloader_num_workers=arm.workers,
        dataloader_persistent_workers=arm.workers > 0,
        remove_unused_columns=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=0,
    )


def _backbone_config(arm: Arm) -> ViTConfig:
    return ViTConfig(image_size=arm.image_size, patch_size=16, **BACKBONES[arm.backbone])


def _example_trainer(arm: Arm, folder: str, faces: DatasetDict, clock: Clock) -> Trainer:
    config = _backbone_config(arm)
    age_ranges = AgeGenderConfig(backbone_config=config).age_ranges
    config.num_labels = len(age_ranges)
    train = faces["train"].cast_column("image", ImageFeature(decode=False))
    train.set_transform(ExampleTransform(arm.image_size, [low for low, _ in age_ranges], clock))
    TimedExample.clock = clock
    return TimedExample(
        model=ViTForImageClassification(config),
        args=_training_arguments(arm, folder),
        train_dataset=train,
        data_collator=collate_example,
    )


def _trainer(arm: Arm, folder: str, decoded: DatasetDict, clock: Clock) -> Trainer:
    transform = TimedTransform(arm.image_size, MEAN, STD, AugmentationArguments())
    TimedTrainer.clock = transform.clock = clock
    return TimedTrainer(
        model=AgeGenderModel(AgeGenderConfig(backbone_config=_backbone_config(arm), image_size=arm.image_size)),
        args=_training_arguments(arm, folder),
        train_dataset=decoded["train"],
        data_collator=collate_faces,
        batch_transform=transform,
        train_resolutions=[arm.image_size * share // 7 for share in (4, 6, 7)] if arm.growing else (),
    )


class TimedExample(Trainer):
    """The transformers Trainer, as the example uses it, which adds each phase of a step to `clock`."""

    clock: Clock

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        backward = self.accelerator.backward

        def timed_backward(loss: torch.Tensor, **kwargs: Any) -> None:
            with self.clock.phase("backward"):
                backward(loss, **kwargs)

        self.accelerator.backward = timed_backward

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        with self.clock.phase("wait"):
            return super().get_batch_samples(*args, **kwargs)

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        with self.clock.phase("forward"):
            return super().compute_loss(*args, **kwargs)


class TimedTrainer(TimedExample, AgeGenderTrainer):
    """This repository's Trainer, timed in the same way."""


class TimedTransform(BatchTransform):
    """This repository's batched augmentation, timed."""

    clock: Clock

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with self.clock.phase("transforms"):
            return super().forward(*args, **kwargs)


class StepTimes(TrainerCallback):
    """Restarts the clock after the warm-up, and times the optimizer, which the Trainer calls between two events."""

    def __init__(self, clock: Clock):
        self.clock = clock

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.before = self.clock.now()

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.clock.add("update", self.clock.now() - self.before)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step == WARM_UP_STEPS:
            self.clock.restart()
        elif state.global_step == args.max_steps:
            self.total, self.seconds = self.clock.read()


class ExampleTransform:
    """The example's transforms: RandomResizedCrop, RandomHorizontalFlip, ToTensor and Normalize, on one picture at a time.

    Written out as torchvision does them on Pillow pictures: torchvision has no CPU build for this version of torch.
    """

    def __init__(self, size: int, age_starts: list[int], clock: Clock):
        self.size, self.age_starts, self.clock = size, age_starts, clock
        self.mean, self.std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)

    def __call__(self, rows: dict[str, list]) -> dict[str, list]:
        with self.clock.phase("decode"):
            pictures = [Image.open(io.BytesIO(image["bytes"])).convert("RGB") for image in rows["image"]]
        with self.clock.phase("transforms"):
            pixel_values = [self.transform(picture) for picture in pictures]
        return {"pixel_values": pixel_values, "labels": np.digitize(rows["age"], self.age_starts) - 1}

    def transform(self, picture: Image.Image) -> torch.Tensor:
        """-> (3, size, size), normalised."""
        picture = picture.resize((self.size, self.size), Image.Resampling.BILINEAR, box=self.random_box(*picture.size))
        if random.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float().div_(255)
        return pixels.sub_(self.mean).div_(self.std)

    @staticmethod
    def random_box(width: int, height: int) -> tuple[int, int, int, int]:
        """8 to 100 % of the picture at an aspect of 3:4 to 4:3."""
        area = random.uniform(0.08, 1) * width * height
        aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        box_w, box_h = min(width, round((area * aspect) ** 0.5)), min(height, round((area / aspect) ** 0.5))
        x, y = random.randint(0, width - box_w), random.randint(0, height - box_h)
        return x, y, x + box_w, y + box_h


def collate_example(rows: list[dict]) -> dict[str, torch.Tensor]:
    return {
        "pixel_values": torch.stack([row["pixel_values"] for row in rows]),
        "labels": torch.tensor([row["labels"] for row in rows]),
    }
