"""What can go wrong, by kind. Each error has a stable code, which `egraft explain CODE` explains."""


class Error(Exception):
    """Any error of egraft.

    `code` is stable; `node` is the node of the model that it is about, or None; `help` is the way out.
    """

    def __init__(self, message, code="", node=None, help=""):
        super().__init__(message)
        self.code = code
        self.node = node
        self.help = help

    def __str__(self):
        lines = [super().__str__()]
        if self.help:
            lines.append(f"help: {self.help}")
        if self.code:
            lines.append(f"code: {self.code}")
        return "\n".join(lines)

    def __reduce__(self):
        return type(self), (self.args[0], self.code, self.node, self.help)


class UnsupportedError(Error):
    """The model is legal, or the wish is, and egraft cannot do it."""


class ModelError(Error):
    """The model is broken, or cannot be read."""


class InputError(Error, ValueError):
    """What was given to a model or an option does not fit."""


class InternalError(Error):
    """egraft has a bug."""
