"""Objectives and loops. Rendering and files come from `data` and `checkpoint`; nothing prints."""
