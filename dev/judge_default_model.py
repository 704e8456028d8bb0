"""Judge the default model on pictures it has not seen, and write the figures into the model card.

    python dev/judge_default_model.py --pictures DIR [--model DIR] [--wheels DIR]

Everything goes through the ordinary loader, processor and engine. Drawn by fixed seeds:

- the sixty of `tessera/data/sources/sixty.json`: does the answer name the thing or its kind
  (`tessera/evaluation/naming.py`), with the right picture, none, and somebody else's;
- caption loss with the right picture, another and none, for held-out concepts and held-out hands;
- how often the right caption of a hundred is the likeliest.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from pathlib import Path

import torch
import torch.nn.functional as F

from tessera.assistant import Assistant, load
from tessera.data import sources
from tessera.engine.generate import GenerationOptions, encode_tiles
from tessera.evaluation.naming import judge, rate
from tessera.models.cache import KVCache
from tessera.processing.conversation import Conversation

ROOT = Path(__file__).resolve().parent.parent
CARD = ROOT / "docs" / "model-card.md"
REPORT = ROOT / "dev" / "default_model_report.json"
EXAMPLES = ROOT / "examples"
QUESTION = "What is this?"
LOSS_PICTURES, RANK_PICTURES = 200, 100


def by_hash(pictures, seed: str):
    """Order pictures by a hash of their names: a draw that does not depend on the file system."""
    return sorted(pictures, key=lambda p: hashlib.sha256(f"{seed}:{p.path.name}".encode()).digest())


def question(picture=None) -> Conversation:
    """Ask about a picture, or about none."""
    return Conversation.user(QUESTION, [] if picture is None else [picture.path])


def answers(assistant: Assistant, shown) -> list[str]:
    """Answer the question about each picture (None: without one), greedily."""
    options = GenerationOptions(max_new_tokens=32)
    found = assistant.batch([question(picture) for picture in shown], options=options)
    return [answer.text for answer in found]


def judge_sixty(assistant: Assistant, sixty) -> tuple[dict[str, float], list[dict[str, object]]]:
    """Return the rates and the unedited answers."""
    shown = {"right picture": sixty, "no picture": [None] * len(sixty), "another picture": []}
    step = len(sixty) // 2 - 1  # never lands on the same kind: kinds are drawn in threes
    shown["another picture"] = [sixty[(i + step) % len(sixty)] for i in range(len(sixty))]
    rates, lines = {}, []
    for name, pictures in shown.items():
        said = answers(assistant, pictures)
        verdicts = [
            judge(text, title=p.title, kind_words=(p.kind, *sources.KINDS[p.kind]))
            for text, p in zip(said, sixty, strict=True)
        ]
        rates[name] = rate(verdicts)
        if name == "right picture":
            rates["the thing itself"] = sum(v.thing for v in verdicts) / len(verdicts)
            lines = [
                {"title": p.title, "kind": p.kind, "answer": text, "right": verdict.right}
                for p, text, verdict in zip(sixty, said, verdicts, strict=True)
            ]
    commonest = Counter(p.kind for p in sixty).most_common(1)[0][1]
    rates["always the commonest kind"] = commonest / len(sixty)
    return rates, lines


@torch.inference_mode()
def caption_losses(assistant: Assistant, picture, captions) -> list[torch.Tensor]:
    """Score captions of one picture (None: no picture): the loss of each caption's tokens.

    The prompt is read once; every caption continues a copy of it.
    """
    model, processor = assistant.model, assistant.processor
    prompt = processor([question(picture)])
    ids_BL = torch.tensor(prompt.ids)
    visual = None if prompt.pixels is None else encode_tiles(model, prompt.pixels)
    embeds = model.embed(ids_BL, visual, visual_token_id=processor.visual_token_id)
    length = ids_BL.shape[1]
    rows = []
    for caption in captions:
        whole = processor([question(picture).reply(caption)])
        trained = [i for i, kept in enumerate(whole.train_masks[0]) if kept]
        assert whole.ids[0][:length] == prompt.ids[0], "the caption does not continue the prompt"
        rows.append(torch.tensor(whole.ids[0][length : trained[-1] + 1]))
    cache = KVCache(
        model.config.language, 1, capacity=length + max(map(len, rows)), dtype=embeds.dtype
    )
    first_V = model(embeds, cache=cache, last_only=True)[0, -1].float().log_softmax(-1)
    cache.select([0] * len(rows))
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    logits = model(model.language.embedding(padded[:, :-1]), cache=cache).float()
    losses = []
    for row, scores in zip(rows, logits, strict=True):
        later = F.cross_entropy(scores[: len(row) - 1], row[1:], reduction="none")
        losses.append(torch.cat([-first_V[row[:1]], later]))
    return losses


def mean_losses(assistant: Assistant, pictures) -> dict[str, float]:
    """Average the loss of right captions with the right picture, another, and none."""
    others = pictures[1:] + pictures[:1]
    result = {}
    for name, shown in (
        ("right picture", pictures),
        ("another picture", others),
        ("no picture", [None] * len(pictures)),
    ):
        losses = [
            caption_losses(assistant, picture, [sources.sentence(about)])[0]
            for picture, about in zip(shown, pictures, strict=True)
        ]
        result[name] = float(torch.cat(losses).mean())
    return result


def rank(assistant: Assistant, pictures) -> dict[str, float]:
    """Find how often the right caption of all of them is the likeliest, by mean token loss."""
    captions = [sources.sentence(picture) for picture in pictures]
    assert len(set(captions)) == len(captions), "captions must differ"
    places = []
    for index, picture in enumerate(pictures):
        losses = [float(loss.mean()) for loss in caption_losses(assistant, picture, captions)]
        places.append(sum(loss < losses[index] for loss in losses))
    return {
        "first": sum(place == 0 for place in places) / len(places),
        "among five": sum(place < 5 for place in places) / len(places),
    }


def distinct(pictures, count: int):
    """Take the first pictures of different captions."""
    chosen: dict[str, sources.CaptionedPicture] = {}
    for picture in pictures:
        chosen.setdefault(sources.sentence(picture), picture)
    return list(chosen.values())[:count]


def card_block(report: dict) -> str:
    """Write the figures as the Markdown of the model card."""
    rates, rows = report["sixty"], []
    for name in ("right picture", "no picture", "another picture", "always the commonest kind"):
        rows.append(f"| {name} | {rates[name]:.0%} |")
    lines = [
        "| sixty held-out pictures, 20 kinds | names the thing or its kind |", "|---|---|", *rows,
        "", f"The thing itself is named in {rates['the thing itself']:.0%}.", "",
        "| caption loss (nats a token) | right picture | another | none |", "|---|---|---|---|",
    ]  # fmt: skip
    for name, losses in report["losses"].items():
        cells = [f"{losses[k]:.2f}" for k in ("right picture", "another picture", "no picture")]
        lines.append(f"| {name} ({report['loss_pictures']} pictures) | {' | '.join(cells)} |")
    ranks = report["rank"]
    lines += [
        "",
        f"The right caption of {RANK_PICTURES} is the likeliest for {ranks['first']:.0%} of "
        f"held-out concepts, among the five likeliest for {ranks['among five']:.0%} "
        "(chance: 1% and 5%).",
        "", "Twenty unedited answers, every third of the sixty:", "",
        "| picture | kind | answer |", "|---|---|---|",
    ]  # fmt: skip
    for line in report["answers"][::3]:
        lines.append(f"| {line['title']} | {line['kind']} | {line['answer']} |")
    return "\n".join(lines)


def fill(path: Path, name: str, block: str) -> None:
    """Replace what stands between `<!-- name -->` and `<!-- /name -->` in a file."""
    text = path.read_text(encoding="utf-8")
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    head, tail = text[: text.index(start) + len(start)], text[text.index(end) :]
    path.write_text(f"{head}\n{block}\n{tail}", encoding="utf-8")


def figures(report: dict) -> str:
    """Write the short block of the READMEs: a table without words, the same in every language."""
    rates = report["sixty"]
    losses = report["losses"]["held-out concepts"]
    return "\n".join(
        [
            "| tessera-small | right picture | another | none |",
            "|---|---|---|---|",
            f"| thing or kind, 60 held-out pictures | {rates['right picture']:.0%} | "
            f"{rates['another picture']:.0%} | {rates['no picture']:.0%} |",
            f"| caption loss, {report['loss_pictures']} held-out concepts | "
            f"{losses['right picture']:.2f} | {losses['another picture']:.2f} | "
            f"{losses['no picture']:.2f} |",
        ]
    )


def example_block(assistant: Assistant) -> str:
    """Answer the question of every example picture."""
    lines = ["| picture | question | answer of tessera-small |", "|---|---|---|"]
    for example in json.loads((EXAMPLES / "examples.json").read_text(encoding="utf-8")):
        answer = assistant.ask(example["question"], [EXAMPLES / example["file"]])
        said = " ".join(answer.text.split()).replace("|", "\\|")
        lines.append(f"| `{example['file']}` | {example['question']} | {said} |")
    return "\n".join(lines)


def main() -> None:
    """Run all of it and write the report and the card."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--pictures", type=Path, required=True, help="built pictures; made if absent"
    )
    parser.add_argument("--model", help="a checkpoint; the default model if not given")
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("--quick", action="store_true", help="the sixty only; writes nothing")
    arguments = parser.parse_args()
    pictures = sources.build(arguments.pictures)
    assistant = load(arguments.model, wheels=arguments.wheels)
    rates, lines = judge_sixty(assistant, sources.read_sixty(pictures))
    print(json.dumps(rates, indent=1))
    for line in lines:
        print("+" if line["right"] else "-", line["title"], "|", line["kind"], "|", line["answer"])
    if arguments.quick:
        return
    of_split = {
        name: distinct(by_hash((p for p in pictures if sources.split(p) == name), name), 10_000)
        for name in ("held-out concept", "held-out hand")
    }
    report = {
        "sixty": rates,
        "loss_pictures": LOSS_PICTURES,
        "losses": {
            f"{name}s": mean_losses(assistant, chosen[:LOSS_PICTURES])
            for name, chosen in of_split.items()
        },
        "rank": rank(assistant, of_split["held-out concept"][:RANK_PICTURES]),
        "answers": lines,
    }
    REPORT.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    fill(CARD, "figures", card_block(report))
    for name in ("README.md", "README.zh.md"):
        fill(ROOT / name, "figures", figures(report))
    fill(EXAMPLES / "README.md", "answers", example_block(assistant))


if __name__ == "__main__":
    main()
