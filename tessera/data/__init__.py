"""Pictures and texts on their way to a model: where they come from and how they are put together.

Everything here may import `tessera.processing` and the leaves, never a model: what needs one
is handed a function.
"""
