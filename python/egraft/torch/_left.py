"""What is left to PyTorch, and the warnings that say so."""

import warnings

SAID = set()


class Unfit(Exception):
    """Why a graph is left to PyTorch."""


def say(error):
    """Warns, once for each reason."""
    why = _reason(error)
    if why not in SAID:
        SAID.add(why)
        warnings.warn(f"egraft leaves a part of the model to PyTorch: {why}", stacklevel=3)


def _reason(error):
    if isinstance(error, Unfit):
        return str(error)
    # What torch.onnx could not translate is said by the first of its errors.
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
