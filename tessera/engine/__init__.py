"""Ids and pixels in, ids out: how the next token is chosen and how many rows are decoded together.

The engine knows modules and tensors only. Text, pictures and files belong to those who call it.
"""
