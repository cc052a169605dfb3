"""The errors that the library raises on purpose.

Every message names the value that was found, the rule that it breaks and the remedy. All of them
derive from `EasyAnimateError`, so a caller can tell a refusal from a programming error.
"""


class EasyAnimateError(Exception):
    """Base class of every deliberate refusal."""


class InputError(EasyAnimateError, ValueError):
    """A parameter, an image, a mask or a clip breaks a rule of the model."""


class HeadError(InputError):
    """The checkpoint's head cannot do what was asked; the message names the head that can."""


class SchedulerError(InputError):
    """The scheduler is unknown or does not fit the checkpoint's prediction type."""


class CheckpointError(EasyAnimateError):
    """A checkpoint's files are missing, damaged, unsafe or do not fit the network."""


class DownloadError(EasyAnimateError):
    """Files cannot be fetched: the hub, the network, the disk, or what arrived is to blame."""


class MediaError(EasyAnimateError):
    """A picture or a video cannot be read or written."""


class RecipeError(EasyAnimateError):
    """A recipe file is not valid or does not fit this version."""
