"""A mesh of the user's, looked at by the bundle's cameras."""
