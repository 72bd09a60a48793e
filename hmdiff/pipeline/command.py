"""The command line of a module that takes words in order and no options."""

import sys
from collections.abc import Callable


def run(usage: str, work: Callable[..., None], arguments: list[str] | None) -> int:
    """Call `work` with the words given, one for each that `usage` names after the module.

    Returns:
        the exit code: 2, and the usage, for another number of words; 1 after an error, told in one
        line.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != len(usage.split()) - 3:  # python -m module
        print(f"usage: {usage}", file=sys.stderr)
        return 2
    try:
        work(*given)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0
