"""The errors of our own that several submodules raise. Each names the file it is about."""

__all__ = ["CheckpointError", "CvkitError", "DataError", "ImageError", "WeightsError"]


class CvkitError(Exception):
    """Base of the errors that cvkit raises about files."""


class ImageError(CvkitError):
    """An image file is missing, damaged, too large or of a kind that is not read."""


class DataError(CvkitError):
    """A data file is missing, damaged or not of the format that was asked for."""


class WeightsError(CvkitError):
    """A file of tensors is missing, damaged or does not fit."""


class CheckpointError(CvkitError):
    """A checkpoint is missing, damaged, foreign or belongs to another run."""
