"""Pages of a list: how many entries one has, and where it begins. Only the giver understands a token."""

from dataclasses import dataclass

from shared.errors import InvalidInputError

MAX_TOKEN_LENGTH = 20


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
    if page_token and not (page_token.isascii() and page_token.isdigit() and len(page_token) <= MAX_TOKEN_LENGTH):
        raise InvalidInputError.of("page_token", f"got {page_token[:80]!r}, expected a next_page_token of this method")
    return Page(min(page_size or default, largest), int(page_token) if page_token else None)
