"""Muon: what it does to one matrix, which parameters it moves, and that a checkpoint holds all of its state."""

import copy
import json
from pathlib import Path

import pytest
import torch

from tests.support.made_up_faces import write_utkface_folder
from tests.support.tiny_model import tiny_model
from trainer.optimizer import MuonWithAdamW, muon_with_adamw, orthogonalize
from trainer.recipe import RecipeError
from trainer.train import main


SMOKE = str(Path(__file__).parents[2] / "trainer/recipes/smoke.yaml")


@pytest.mark.parametrize("shape", [(8, 8), (6, 20), (20, 6)])
def test_singular_values_become_alike_and_directions_stay(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalize(matrix)
    assert result.shape == matrix.shape
    assert result.dtype == torch.float32
    core = u.T @ result @ v.T  # diagonal if the singular vectors are the same
    assert values.max() / values.min() > 2
    assert torch.allclose(core, torch.diag(core.diagonal()), atol=0.05)
    assert core.diagonal().min() > 0.6
    assert core.diagonal().max() < 1.3


def test_a_step_has_the_size_of_adamws():
    """0.2 is what AdamW's steps come to in practice; filters count as matrices."""
    for shape in [(32, 32), (16, 8, 3, 3)]:
        weights = torch.nn.Parameter(torch.zeros(shape))
        optimizer = MuonWithAdamW([{"params": [weights], "muon": True}], lr=0.1, weight_decay=0.0)
        weights.grad = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        optimizer.step()
        assert weights.detach().square().mean().sqrt().item() == pytest.approx(0.1 * 0.2, rel=0.3)


def test_a_step_that_overflows_is_left_out():
    """As fp16's gradients do at first, until their scale is found."""
    model = tiny_model()
    optimizer = muon_with_adamw(model, weight_decay=0.1, lr=1e-2, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for overflows in (True, False):
        before = [parameter.detach().clone() for parameter in model.parameters()]
        scaler.scale(sum(parameter.square().sum() for parameter in model.parameters())).backward()
        if overflows:
            model.age_head.weight.grad[0, 0] = float("inf")
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        assert all(parameter.isfinite().all() for parameter in model.parameters())
        stayed = all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))
        assert stayed == overflows
    assert scaler.get_scale() == 2.0


def test_which_parameters_it_moves():
    model = tiny_model()
    names = {parameter: name for name, parameter in model.named_parameters()}
    muon, adamw, undecayed = (
        {names[parameter] for parameter in group["params"]}
        for group in muon_with_adamw(model, weight_decay=0.1, lr=1e-3).param_groups
    )
    assert sorted(muon | adamw | undecayed) == sorted(names.values())
    assert {"age_head.weight", "gender_head.weight"} <= adamw
    stem = "backbone.embeddings.patch_embeddings.projection"
    assert f"{stem}.0.weight" in adamw
    assert f"{stem}.3.weight" in muon
    assert "backbone.layers.0.mlp.fc1.weight" in muon
    assert "backbone.embeddings.position_embeddings" in undecayed


def test_an_optimizer_resumed_from_its_state_takes_the_same_steps():
    model = tiny_model()
    optimizer = muon_with_adamw(model, weight_decay=0.1, lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    gradients = [[torch.randn(p.shape, generator=generator) for p in model.parameters()] for _ in range(4)]

    def take(model, optimizer, steps):
        for step in steps:
            for parameter, gradient in zip(model.parameters(), step, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()
        return model

    take(model, optimizer, gradients[:2])
    again = copy.deepcopy(model)
    resumed = muon_with_adamw(again, weight_decay=0.1, lr=1e-2)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    take(model, optimizer, gradients[2:])
    take(again, resumed, gradients[2:])
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_a_recipe_asks_for_it(tmp_path):
    faces = write_utkface_folder(tmp_path / "faces", count=60, size=40)
    arguments = [SMOKE, "--dataset", str(faces), "--output_dir", str(tmp_path / "run"), "--muon", "true"]
    main([*arguments, "--report", "false", "--disable_tqdm", "true"])
    record = json.loads((tmp_path / "run" / "training_run.json").read_text())
    assert record["arguments"]["muon"] is True
    state = torch.load(next(tmp_path.glob("run.checkpoints/checkpoint-*/optimizer.pt")), weights_only=True)
    assert any("momentum_buffer" in one for one in state["state"].values())

    with pytest.raises(RecipeError, match=r"got optim: sgd\. Leave out optim"):
        main([*arguments, "--output_dir", str(tmp_path / "other"), "--optim", "sgd"])
