import pytest

from tessera.evaluation.naming import judge, rate


@pytest.mark.parametrize(
    ("answer", "thing", "kind"),
    [
        ("A bird, perhaps a magpie.", True, True),
        ("Two birds on a branch", False, True),
        ("a magpie", True, False),
        ("a mammal, perhaps a cat", False, False),
        ("a toy, perhaps a bird", False, False),
        ("", False, False),
        ("birdhouse", False, False),
        ("so " * 15 + "a bird", False, False),
    ],
)
def test_an_answer_is_right_when_it_names_the_thing_or_its_kind(answer, thing, kind):
    verdict = judge(answer, title="magpie", kind_words=("bird",))
    assert (verdict.thing, verdict.kind) == (thing, kind)
    assert verdict.right == (thing or kind)


def test_every_content_word_of_a_title_must_be_said():
    verdict = judge(
        "a flag, perhaps the flag of France", title="flag of Japan", kind_words=("flag",)
    )
    assert (verdict.thing, verdict.kind) == (False, True)
    assert judge("red berries", title="red berry", kind_words=("fruit",)).thing


def test_kind_phrases_of_several_words_must_stand_together():
    words = ("musical instrument",)
    assert judge("a musical instrument", title="lute", kind_words=words).kind
    assert not judge("a musical box, an instrument", title="lute", kind_words=words).kind


def test_the_rate_counts_right_answers():
    verdicts = [judge(text, title="x y", kind_words=("bird",)) for text in ("bird", "cat")]
    assert rate(verdicts) == 0.5
    assert rate([]) == 0.0
