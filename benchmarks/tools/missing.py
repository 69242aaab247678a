"""Peers that are not part of the project: what is said where one cannot be had."""


class MissingPeer(Exception):
    """It is not installed here and cannot be, or it failed; the text says why. Everything else is measured."""
