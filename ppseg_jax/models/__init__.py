"""The model, and whose weights it can take."""
