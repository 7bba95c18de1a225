"""Fully automatic river masks from aerial RGB imagery: Segment Anything without prompts."""

__version__ = "0.1.0"
