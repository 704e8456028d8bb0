"""Groups of options that several commands share, and how a command takes a whole group.

A parameter annotated with a dataclass becomes one option for each of its fields:

    @app.command()
    @spread
    def chat(question: str, model: ModelOptions) -> None: ...
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from tessera.engine.generate import GenerationOptions


_RELEASED_TOKENS = 1024  # as in the published recipes
_DEMO_TOKENS = 128  # its good answers are one sentence; what goes on longer repeats itself


@dataclass(frozen=True)
class ModelOptions:
    """Which model, and in which form."""

    model: Annotated[
        str | None,
        typer.Option(help="Checkpoint directory or hub id. Default: the small demo model."),
    ] = None
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")] = None
    precision: Annotated[
        str, typer.Option(help="float32, bfloat16, int8, int4, default or auto.")
    ] = "default"
    device: Annotated[str, typer.Option(help="Where to run: cpu, cuda, mps or auto.")] = "auto"
    wheels: Annotated[
        Path | None,
        typer.Option(help="Directory with the default model's two wheels; nothing is downloaded."),
    ] = None


@dataclass(frozen=True)
class AnswerOptions:
    """How to answer."""

    max_tiles: Annotated[
        int | None, typer.Option(min=1, max=40, help="Most tiles a picture is cut into.")
    ] = None
    system: Annotated[
        str | None, typer.Option(help="System message instead of the model's own.")
    ] = None
    max_new_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Most tokens of an answer; 1024, of the small demo model 128."),
    ] = None
    temperature: Annotated[
        float, typer.Option(min=0.0, help="0 takes the likeliest token; 1 samples.")
    ] = 0.0
    seed: Annotated[int | None, typer.Option(min=0, help="Makes sampled answers repeatable.")] = (
        None
    )

    def generation(self, model: ModelOptions) -> GenerationOptions:
        """Return what the engine needs; warn about an option that changes nothing."""
        from tessera.engine.generate import GenerationOptions
        from tessera.engine.sampling import SamplingOptions

        if self.seed is not None and self.temperature == 0:
            typer.echo("--seed changes nothing without --temperature above 0", err=True)
        sampling = SamplingOptions(temperature=self.temperature, seed=self.seed)
        count = self.max_new_tokens or (_DEMO_TOKENS if model.model is None else _RELEASED_TOKENS)
        return GenerationOptions(max_new_tokens=count, sampling=sampling)


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Replace parameters that are dataclasses by their fields, for typer to read."""
    hints = get_type_hints(command, include_extras=True)
    signature = inspect.signature(command)
    groups = {name: hints[name] for name in signature.parameters if is_dataclass(hints[name])}
    members = {name: [field.name for field in fields(group)] for name, group in groups.items()}

    @functools.wraps(command)
    def taking_fields(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field: values.pop(field) for field in members[name]})
        command(**values)

    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        if name in groups:
            parameters += _fields_as_parameters(groups[name])
        else:
            keyword = parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=hints[name])
            parameters.append(keyword)
    taking_fields.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=parameters, return_annotation=None
    )
    taking_fields.__annotations__ = {p.name: p.annotation for p in parameters}
    del taking_fields.__wrapped__
    return taking_fields


def _fields_as_parameters(group: type) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]
