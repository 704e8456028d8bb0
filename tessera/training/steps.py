"""Optimiser steps over named parameters: AdamW, warm-up and cosine, clipping, exact resume."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tessera.errors import UserError

MAX_NORM = 1.0  # of the gradient of all trained parameters together


class Steps:
    """Takes the steps of one training run; its state is a dict of flat named tensors."""

    def __init__(
        self,
        groups: Sequence[tuple[float, Mapping[str, nn.Parameter]]],
        *,
        steps: int,
        warmup: int,
        weight_decay: float,
    ) -> None:
        """Start a run.

        Args:
            groups: peak learning rates and the named parameters that are trained with each.
            steps: length of the schedule.
            warmup: steps of linear rise; then half a cosine down to zero.
            weight_decay: of AdamW, for every parameter.
        """
        self.step, self.steps, self.warmup = 0, steps, warmup
        self.trained = {name: p for _, group in groups for name, p in group.items()}
        self.optimizer = torch.optim.AdamW(
            [
                {"params": list(group.values()), "lr": peak, "peak": peak}
                for peak, group in groups
                if group
            ],
            weight_decay=weight_decay,
            betas=(0.9, 0.98),
        )

    def take(self, loss: Tensor) -> float:
        """Take one step down a loss; return its value.

        Raises:
            FloatingPointError: the loss or a gradient is not finite; nothing was changed.
        """
        if not torch.isfinite(loss):
            raise FloatingPointError(f"loss is {float(loss.detach())} at step {self.step}")
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.trained.values(), MAX_NORM)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"the gradient's norm is {float(norm)} at step {self.step}")
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * cosine(self.step, self.steps, warmup=self.warmup)
        self.optimizer.step()
        self.step += 1
        return float(loss.detach())

    def state(self) -> dict[str, Tensor]:
        """Collect everything that `restore` needs to go on exactly."""
        state = {"step": torch.tensor(self.step), "steps": torch.tensor(self.steps)}
        for name, parameter in self.trained.items():
            state[f"parameter/{name}"] = parameter.detach()
            for key, value in self.optimizer.state[parameter].items():
                state[f"{key}/{name}"] = torch.as_tensor(value)
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state`; parameters and recipe must be those it was saved with.

        Raises:
            UserError: the state is of a schedule of another length.
        """
        if int(state["steps"]) != self.steps:
            raise UserError(
                f"the saved state is of a run of {int(state['steps'])} steps, not {self.steps}: "
                "give the same number, or delete the state to start over"
            )
        self.step = int(state["step"])
        for name, parameter in self.trained.items():
            with torch.no_grad():
                parameter.copy_(state[f"parameter/{name}"])
            self.optimizer.state[parameter] = {
                key.split("/")[0]: value.clone()
                for key, value in state.items()
                if key.endswith(f"/{name}") and not key.startswith("parameter/")
            }


def cosine(step: int, steps: int, *, warmup: int) -> float:
    """Rise linearly, then fall to zero along half a cosine."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))
