"""The words of prompts and the terms of searches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain.search import MAX_WORD, MAX_WORDS, HistoryFilter, Term, fold, terms_of, words_of
from tests.making import an_image

texts = st.text(max_size=40)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A lighthouse, at DUSK", ["a", "lighthouse", "at", "dusk"]),
        ("Café Straße ﬁne Ⅳ ½", ["cafe", "strasse", "fine", "iv", "1", "2"]),
        ("sci-fi 4k don't", ["sci", "fi", "4k", "don", "t"]),
        ('a OR "b" NEAR(c*) NOT -d +e ^f {g}', ["a", "or", "b", "near", "c", "not", "d", "e", "f", "g"]),
        ("灯台守", ["灯台", "台守", "守"]),
        ("a夕焼けb", ["a", "夕焼", "焼け", "け", "b"]),
        ("🦊🦊 fox👨‍👩‍👧❤️", ["🦊", "fox", "👨", "👩", "👧", "❤"]),
        ("İstanbul ΣΊΣΥΦΟΣ", ["istanbul", "σισυφοσ"]),
        ("x x X", ["x"]),
        ("\0\ud800 %_'\" \u202e", []),
    ],
)
def test_the_words_of_a_prompt(text, words):
    assert words_of(text) == words


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        ("", []),
        ('* " ( ) :', []),
        ("li a", [Term("li", is_prefix=True), Term("a", is_prefix=False)]),
        ("Li LI lí", [Term("li", is_prefix=True)]),
        ("灯台守", [Term("灯台", is_prefix=True), Term("台守", is_prefix=True)]),
        ("守", [Term("守", is_prefix=True)]),
        ("🦊", [Term("🦊", is_prefix=False)]),
    ],
)
def test_the_terms_of_a_search(query, terms):
    assert list(terms_of(query)) == terms


def test_long_words_and_long_prompts_are_bounded():
    assert words_of("x" * 99) == ["x" * MAX_WORD]
    assert terms_of("x" * 99) == (Term("x" * MAX_WORD, is_prefix=True),)
    assert len(words_of(" ".join(map(str, range(5000))))) == MAX_WORDS


@given(texts)
def test_folding_twice_changes_nothing_more(text):
    assert fold(fold(text)) == fold(text)


@given(texts)
def test_a_prompt_is_found_by_itself(text):
    assert HistoryFilter(terms=terms_of(text)).matches(an_image(prompt=text))


@given(texts, texts)
def test_a_word_holds_nothing_that_a_store_could_read_otherwise(text, query):
    for word in [*words_of(text), *(term.text for term in terms_of(query))]:
        assert word
        assert not set(word) & set(" \"'*%_\\$:^(){}[]+-\0\U0010ffff")
        assert word == fold(word) or len(word) == MAX_WORD
