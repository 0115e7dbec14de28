"""Pages of a list: sizes, tokens, and what is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import InvalidInputError
from shared.paging import Page, page_of


@pytest.mark.parametrize(("asked", "size"), [(0, 50), (1, 1), (200, 200), (201, 200), (2**31 - 1, 200)])
def test_a_page_has_the_size_asked_for_up_to_the_largest(asked: int, size: int) -> None:
    """None asked for means 50."""
    assert page_of(asked, "") == Page(size, None)


def test_a_method_may_have_other_sizes() -> None:
    """Its own default and its own largest."""
    assert page_of(0, "", default=100, largest=1000).size == 100
    assert page_of(5000, "", default=100, largest=1000).size == 1000


def test_a_negative_size_is_refused() -> None:
    """With what is expected."""
    with pytest.raises(InvalidInputError, match="page_size: got -1, expected 0 to 200; 0 means 50"):
        page_of(-1, "")


@pytest.mark.parametrize(("token", "position"), [("0", 0), ("50", 50), (str(2**53), 2**53)])
def test_a_token_says_where_the_page_begins(token: str, position: int) -> None:
    """It is the giver's own number."""
    assert page_of(0, token).position == position


@pytest.mark.parametrize("token", ["x", "-1", "1.5", " 1", "1\n", "٣", "²", str(2**53 + 1), "9" * 21, "0x10", "1_0"])
def test_a_token_that_nobody_gave_is_refused(token: str) -> None:
    """The field is named."""
    with pytest.raises(InvalidInputError, match=r"page_token: got .*, expected a next_page_token of this method"):
        page_of(0, token)


@given(st.integers(-(2**31), 2**31 - 1), st.text(max_size=30))
@settings(max_examples=200, deadline=None)
def test_whatever_comes_the_answer_is_a_page_or_a_refusal(size: int, token: str) -> None:
    """No text is taken for a number that is none."""
    try:
        page = page_of(size, token)
    except InvalidInputError:
        return
    assert 1 <= page.size <= 200
    assert page.position is None or str(page.position) == token.lstrip("0") or page.position == 0
