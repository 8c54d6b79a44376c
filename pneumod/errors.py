"""Every exception that pneumod raises on purpose.

PneumodError                 one clear line for a user: what, where, what to do
├── ConfigError              the YAML of a node, or an option on the command line   (exit 2)
├── DataError                a folder or a file of images
├── ModelError               a model file that is missing or isn't one of ours
├── BusError                 the broker can't be reached, or refused something
├── RefusedError             the master (or a node) said no, and why
└── WireError                bytes from the bus that are not a valid message: dropped and counted
"""


class PneumodError(Exception):
    """Base of all errors that are shown to a user as one line, without a traceback."""

    exit_code = 1


class ConfigError(PneumodError):
    """A configuration or an option is wrong; the text names the file, the key and the remedy."""

    exit_code = 2


class DataError(PneumodError):
    """A folder or an image can't be used; the text says which and why."""


class ModelError(PneumodError):
    """A model file or its card is missing, damaged or of another kind."""


class BusError(PneumodError):
    """The broker can't be reached, or refused a connection, a subscription or a message."""


class RefusedError(PneumodError):
    """A request was understood and refused; the text is the refuser's reason.

    Attributes:
        again: the same request may be answered otherwise in a moment.
    """

    def __init__(self, text: str, again: bool = False) -> None:
        super().__init__(text)
        self.again = again


class WireError(PneumodError):
    """Bytes from the bus failed validation; the text is a short reason, used as a counter's name."""
