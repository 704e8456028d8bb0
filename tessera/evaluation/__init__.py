"""Measure answers. Nothing here sees an engine or a model: an Answerer is handed in."""
