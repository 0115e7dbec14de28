"""What this product says of itself."""

from importlib.metadata import PackageNotFoundError, version

NAME = "weightcast"


def product_version() -> str:
    """The product's version; "unknown" where its package was not installed."""
    try:
        return version(NAME)
    except PackageNotFoundError:
        return "unknown"
