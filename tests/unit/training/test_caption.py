"""The second part of the default model's training, tiny: what moves, and resuming exactly."""

import pytest
import torch

from tessera.errors import UserError
from tessera.models.chat import ChatModel
from tessera.models.lora import add_lora
from tessera.training.caption import (
    CaptionSample,
    CaptionTrainer,
    caption_loss,
    collate,
    keep_tokens,
)
from tests.unit.models.tiny import tiny_config

PLACE = 9


def samples():
    rows = [([1, PLACE, 4, 20, 21, 2], 3), ([1, PLACE, 5, 22, 2], 3)]
    return [
        CaptionSample(
            ids=tuple(ids),
            train_mask=tuple(position >= start for position in range(len(ids))),
        )
        for ids, start in rows
    ]


def make_batch(tokens=4):
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(2, tokens, 96, generator=generator)
    return collate(samples(), features, visual_token_id=PLACE)


def make_trainer(steps=6):
    torch.manual_seed(0)
    model = ChatModel(tiny_config())
    add_lora(model, r"(language|vision)\.blocks\.0\.attention\.qkv", rank=2, alpha=4)
    return CaptionTrainer(model, visual_token_id=PLACE, steps=steps, lr=1e-2, lora_lr=1e-2)


def test_a_placeholder_expands_to_the_visual_tokens_and_rows_pad_on_the_right():
    batch = make_batch()
    assert batch.ids_BL.tolist() == [
        [1, 9, 9, 9, 9, 4, 20, 21, 2],
        [1, 9, 9, 9, 9, 5, 22, 2, 0],
    ]
    assert batch.train_mask_BL.int().tolist() == [
        [0, 0, 0, 0, 0, 0, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 1, 1, 0],
    ]


def test_padding_and_batch_mates_do_not_change_a_loss():
    model = ChatModel(tiny_config()).eval()
    batch = make_batch()
    alone = collate(samples()[1:], batch.features_TSD[1:], visual_token_id=PLACE)
    both = caption_loss(model, batch, visual_token_id=PLACE)
    torch.testing.assert_close(both[3:], caption_loss(model, alone, visual_token_id=PLACE))


def test_kept_tokens_stay_in_order_and_differ_between_pictures():
    features = torch.arange(16.0)[None, :, None].expand(8, 16, 1).contiguous()
    kept = keep_tokens(features, 5, torch.Generator().manual_seed(0))
    assert kept.shape == (8, 5, 1)
    assert (kept[:, 1:] > kept[:, :-1]).all()
    assert len({tuple(row) for row in kept[..., 0].tolist()}) > 1
    assert keep_tokens(features, 99, torch.Generator()) is features


def test_training_moves_the_projector_and_lora_only_and_lowers_the_loss():
    trainer = make_trainer(steps=30)
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}
    losses = [trainer.train_step(make_batch()) for _ in range(30)]
    assert losses[-1] < losses[0]
    for name, parameter in trainer.model.named_parameters():
        moved = not torch.equal(parameter, before[name])
        is_learning = name.startswith("language.") and "lora_" in name
        assert moved == (name.startswith("projector.") or is_learning), name


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit():
    whole, first = make_trainer(), make_trainer()
    for _ in range(3):
        whole.train_step(make_batch())
        first.train_step(make_batch())
    second = make_trainer()
    second.run.restore(first.run.state())
    for _ in range(3):
        assert whole.train_step(make_batch()) == second.train_step(make_batch())
    for (name, ours), theirs in zip(
        whole.model.named_parameters(), second.model.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def test_a_loss_that_is_not_finite_stops_before_the_update():
    trainer = make_trainer()
    batch = make_batch()
    batch.features_TSD[0, 0, 0] = float("nan")
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}
    with pytest.raises(FloatingPointError, match="step 0"):
        trainer.train_step(batch)
    assert all(torch.equal(p, before[n]) for n, p in trainer.model.named_parameters())


def test_a_gradient_that_is_not_finite_stops_before_the_update():
    trainer = make_trainer()
    before = {name: p.clone() for name, p in trainer.run.trained.items()}
    weight = trainer.model.projector.up.weight
    loss = (weight * 0.0).sum().sqrt()  # 0, with an infinite slope
    with pytest.raises(FloatingPointError, match="the gradient's norm is nan at step 0"):
        trainer.run.take(loss)
    assert all(torch.equal(p, before[name]) for name, p in trainer.run.trained.items())
    assert trainer.run.step == 0


def test_a_state_of_another_schedule_is_refused():
    with pytest.raises(UserError, match="of a run of 6 steps, not 9"):
        make_trainer(9).run.restore(make_trainer(6).run.state())


def test_a_batch_of_words_only_trains_no_projector():
    trainer = make_trainer()
    sample = CaptionSample(ids=(1, 4, 20, 2), train_mask=(False, False, True, True))
    before = trainer.model.projector.up.weight.clone()
    trainer.train_step(collate([sample], None, visual_token_id=PLACE))
    assert torch.equal(trainer.model.projector.up.weight, before)
