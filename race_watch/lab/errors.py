"""The one exception the lab raises on purpose."""


class LabError(Exception):
    """The lab cannot do what was asked; the message is one line a person can act on."""
