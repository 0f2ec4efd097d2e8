"""The child process: its main, messages, connection, the fork template, parent watch, caps."""
