"""Python's own way in: functions over `commands`, each piece of work in a process of its own."""
