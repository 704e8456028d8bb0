"""`tessera bench`: how fast a model is here."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def bench(
    model: Annotated[
        str,
        typer.Argument(help="Preset (random weights), checkpoint directory or hub id."),
    ],
    precision: Annotated[
        str, typer.Option(help="float32, bfloat16, int8, int4, default or auto.")
    ] = "auto",
    prompt: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Positions of a prompt; may be repeated. [default: 306, 1842]"),
    ] = None,
    new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer.")] = 32,
    repeats: Annotated[int, typer.Option(min=1, help="Runs that are counted.")] = 3,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; default: torch's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure tiles, prompts and tokens a second, and the peak of memory, on the CPU.

    Nothing is remembered between runs; times are medians after a run that is not counted.
    """
    from tessera.diagnostics.bench import BenchPlan, set_threads
    from tessera.diagnostics.bench import bench as measure

    set_threads(threads)
    plan = BenchPlan(
        prompts=tuple(prompt or BenchPlan.prompts),
        new_tokens=new_tokens,
        repeats=repeats,
    )
    result = measure(model, precision=precision, plan=plan)
    typer.echo(json.dumps(result.to_json(), indent=1) if as_json else "\n".join(result.lines()))
