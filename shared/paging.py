"""Pages of a list: how many entries one has, and where it begins. Only the giver understands a token."""

import re
from dataclasses import dataclass

from shared.errors import InvalidInputError

TOKEN = re.compile(r"[0-9]{1,16}")
MAX_POSITION = 2**53  # more than any list has, and little enough for every store


@dataclass(frozen=True)
class Page:
    """At most `size` entries; `position` is what the token of the page before said, None for the first page."""

    size: int
    position: int | None


def page_of(page_size: int, page_token: str, *, default: int = 50, largest: int = 200) -> Page:
    """The page a request asks for; a larger one than allowed is cut to `largest`.

    Raises:
        InvalidInputError: naming page_size or page_token.
    """
    if page_size < 0:
        raise InvalidInputError.of("page_size", f"got {page_size}, expected 0 to {largest}; 0 means {default}")
    return Page(min(page_size or default, largest), position_of(page_token) if page_token else None)


def position_of(page_token: str) -> int:
    """What a page token says.

    Raises:
        InvalidInputError: if it is none that was given out.
    """
    if TOKEN.fullmatch(page_token) and int(page_token) <= MAX_POSITION:
        return int(page_token)
    raise InvalidInputError.of("page_token", f"got {page_token[:80]!r}, expected a next_page_token of this method")
