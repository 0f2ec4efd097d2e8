"""The parent side: schedules stage processes and keeps the record. Never imports torch."""

__version__ = "0.1.0"
