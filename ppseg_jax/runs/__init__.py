"""A trained run: its folder, its model, its first state, its records."""
