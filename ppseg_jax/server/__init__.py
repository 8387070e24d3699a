"""The cloud: a trained run that answers encrypted pictures over HTTP.

Nothing here, and nothing that is imported here, takes a key.
"""
