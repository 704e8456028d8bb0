"""The first part of the default model's training, tiny: projector and vision adapters learn."""

import pytest
import torch

from tessera.models.chat import ChatModel
from tessera.models.lora import add_lora
from tessera.training.warm_up import WarmUp, WarmUpTrainer, rescale, shuffle_hidden
from tests.unit.models.tiny import tiny_config

PICTURES, KINDS = 24, 3


def make_trainer(steps=40, cells=99, first_block=1):
    torch.manual_seed(0)
    model = ChatModel(tiny_config()).eval()
    add_lora(model, r"vision\.blocks\.1\.(attention\.(qkv|out)|mlp\.(up|down))", rank=2, alpha=4)
    targets = torch.randn(KINDS, model.config.language.width).repeat(PICTURES // KINDS, 1)
    recipe = WarmUp(steps=steps, first_block=first_block, cells_kept=cells, vision_lr=1e-2)
    kinds = torch.arange(PICTURES) % KINDS
    return WarmUpTrainer(model, recipe, targets_ND=targets, kinds_N=kinds)


def make_hidden(trainer):
    """Hidden states of pictures whose kinds differ a little."""
    config = trainer.model.config
    patches = 1 + (config.tile_size // config.vision.patch_size) ** 2
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(PICTURES, patches, config.vision.width, generator=generator)
    kinds = torch.randn(KINDS, 1, config.vision.width, generator=generator)
    return noise + kinds[torch.arange(PICTURES) % KINDS]


def take(trainer, hidden, number):
    torch.manual_seed(number)
    rows = torch.randperm(PICTURES)[:12]
    return trainer.train_step(hidden[rows], rows, torch.Generator().manual_seed(number))


@pytest.mark.parametrize("cells", [1, 99])
def test_only_the_projector_and_the_vision_adapters_learn(cells):
    trainer = make_trainer(cells=cells)
    hidden = make_hidden(trainer)
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}
    losses = [take(trainer, hidden, number) for number in range(40)]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    for name, parameter in trainer.model.named_parameters():
        is_learning = name.startswith("projector.") or ("vision." in name and "lora_" in name)
        assert torch.equal(parameter, before[name]) != is_learning, name


def test_without_blocks_to_learn_the_projector_learns_alone():
    trainer = make_trainer(first_block=2)
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}
    losses = [take(trainer, make_hidden(trainer), number) for number in range(40)]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, before[name]) != name.startswith("projector."), name


def test_features_are_what_the_projector_reads_of_the_whole_model():
    trainer = make_trainer()
    model = trainer.model
    for number in range(3):
        take(trainer, make_hidden(trainer), number)
    size = model.config.tile_size
    pixels = torch.randn(2, 3, size, size)
    with torch.no_grad():
        hidden = trainer.finish(model.vision(pixels, 1))
        found = shuffle_hidden(hidden, model.config)
        torch.testing.assert_close(found, model.shuffled_patches(pixels))


def test_visual_tokens_are_brought_to_the_size_asked_for():
    trainer = make_trainer()
    features = shuffle_hidden(make_hidden(trainer), trainer.model.config)
    rescale(trainer.model.projector, features, size=0.5)
    with torch.no_grad():
        rms = trainer.model.projector(features).square().mean().sqrt()
    assert float(rms) == pytest.approx(0.5, rel=1e-3)


def test_a_resumed_warm_up_equals_an_uninterrupted_one_bit_for_bit():
    whole, first, second = make_trainer(6), make_trainer(6), make_trainer(6)
    hidden = make_hidden(whole)
    for number in range(3):
        take(whole, hidden, number)
        take(first, hidden, number)
    second.run.restore(first.run.state())
    for number in range(3, 6):
        assert take(whole, hidden, number) == take(second, hidden, number)
    for name, parameter in whole.run.trained.items():
        assert torch.equal(parameter, second.run.trained[name]), name
