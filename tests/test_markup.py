from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.markup import has_html, strip_html


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("no markup", "no markup"),
        ("a < b and b > c", "a < b and b > c"),
        ("I <3 you & me", "I <3 you & me"),
        ("<p>one</p><p>two</p>", " one  two "),
        ("<b>bo</b>ld &amp; <a href='x'>link</a>", "bold & link"),
        ("x<script>if (a<b) alert('<p>')</script>y", "x y"),
        ("x<!-- <b>hidden</b> -->y", "x y"),
        ("<style>p {}</style>z", " z"),
        ("open <!-- for ever <b>x</b>", "open <!-- for ever x"),
        ("open <script> for ever <b>x</b>", "open <script> for ever x"),
    ],
)
def test_text_is_left_when_markup_is_removed(text: str, plain: str) -> None:
    assert strip_html(text) == plain


@pytest.mark.parametrize("text", ["<br/>", "a <B>b</B>", "Tom &amp; Ann", "&#39;", '<a href="x">'])
def test_html_is_seen_when_there_is_any(text: str) -> None:
    assert has_html(text)


@pytest.mark.parametrize("text", ["", "a < b > c", "I <3 you", "<name> of <thing>", "AT&T; x", "R&D"])
def test_html_is_not_seen_when_there_is_none(text: str) -> None:
    assert not has_html(text)


@given(st.text(alphabet=st.sampled_from(list("<>/!-ab &;scriptyle")), max_size=200))
def test_no_known_tag_is_left_when_text_is_arbitrary(text: str) -> None:
    assert "<b>" not in strip_html(text.replace("&", ""))


@pytest.mark.alone
@pytest.mark.parametrize("part", ["<!--", "<script>", "<", "<a ", "&#3", "<style><!--", "</"])
def test_time_grows_with_the_length_when_text_is_hostile(part: str) -> None:
    def seconds(n: int) -> float:
        text = part * n
        started = time.perf_counter()
        strip_html(text)
        has_html(text)
        return time.perf_counter() - started

    seconds(1_000)
    small, large = min(seconds(20_000) for _ in range(3)), min(seconds(80_000) for _ in range(3))
    assert large < max(10 * small, 0.2)
