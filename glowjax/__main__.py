"""`python -m glowjax` is the command line, as `glowjax` is."""

import sys

from glowjax.extras import extra


def main() -> int:
    """Runs the command line; returns the exit status."""
    try:
        with extra("train", "the command line"):
            from glowjax import cli
    except ModuleNotFoundError as error:
        print(f"glowjax: {error}", file=sys.stderr)
        return 1
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
